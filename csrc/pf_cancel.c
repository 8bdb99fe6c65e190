/* SPDX-License-Identifier: MIT */
#include "pf_cancel.h"

#include "pf_clock.h"
#include "pf_random.h"

/* The longest canonical message of a cancel: its fixed text is under 128
   characters, then order id, symbol, window and timestamp. */

#define MESSAGE_SZ ( 128 + PF_CLIENT_ORDER_ID_LEN + PF_SYMBOL_MAX + 2 * PF_U64_LEN )

/* What one order is addressed by: a number, or the characters of its
   client order id. */

typedef struct {
  uint64_t    number;
  const char *client_order_id; /* NULL: by number */
} order_ref;

int
pf_is_uuid( const char *text, size_t len ) {
  if( len != PF_CLIENT_ORDER_ID_LEN ) {
    return 0;
  }
  for( size_t i = 0; i < PF_CLIENT_ORDER_ID_LEN; i++ ) {
    char const c         = text[i];
    int const  hyphen    = i == 8 || i == 13 || i == 18 || i == 23;
    int const  hex_digit = ( c >= '0' && c <= '9' ) || ( c >= 'a' && c <= 'f' );
    if( hyphen ? c != '-' : !hex_digit ) {
      return 0;
    }
  }
  return 1;
}

/* Printable ASCII that needs no escape in JSON. */

static int
is_plain_text( const char *text, size_t len ) {
  for( size_t i = 0; i < len; i++ ) {
    if( text[i] < 0x20 || text[i] > 0x7e || text[i] == '"' || text[i] == '\\' ) {
      return 0;
    }
  }
  return 1;
}

static int
is_pubkey( const char *text, size_t len ) {
  uint8_t bytes[PF_PUBKEY_SZ];
  return len <= PF_BASE58_32_MAX_LEN && pf_base58_decode_exact( bytes, sizeof( bytes ), text, len ) == PF_OK;
}

int
pf_put_envelope( pf_writer *w, uint64_t number, const char *request_id, size_t id_len ) {
  int rc = PF_OK;
  PF_PUT_LIT( w, "{\"id\":\"" );
  if( id_len ) {
    if( !pf_is_uuid( request_id, id_len ) ) {
      return PF_ERR_ARGUMENT;
    }
    pf_put( w, request_id, id_len );
  } else {
    if( !number ) {
      rc = pf_id_reserve( &number, 1 );
    }
    if( rc == PF_OK ) {
      rc = pf_id_write( w, number );
    }
  }
  PF_PUT_LIT( w, "\",\"params\":{\"" );
  return rc;
}

/* Templates.  Each piece is written by a bounded writer into its own
   array; a piece that would not fit fails the whole. */

static int64_t
make_head( pf_template *t, const char *account, size_t account_len, const char *agent, size_t agent_len ) {
  pf_writer w = pf_writer_on( t->head, sizeof( t->head ) );
  PF_PUT_LIT( &w, "{\"account\":\"" );
  pf_put( &w, account, account_len );
  if( agent_len ) {
    PF_PUT_LIT( &w, "\",\"agent_wallet\":\"" );
    pf_put( &w, agent, agent_len );
  }
  PF_PUT_LIT( &w, "\",\"signature\":\"" );
  return pf_writer_len( &w );
}

static void
put_window( pf_writer *w, uint64_t expiry_window ) {
  PF_PUT_LIT( w, "\"expiry_window\":" );
  pf_put_u64( w, expiry_window );
}

static void
put_symbol( pf_writer *w, const char *symbol, size_t symbol_len ) {
  PF_PUT_LIT( w, "\"symbol\":\"" );
  pf_put( w, symbol, symbol_len );
  PF_PUT_LIT( w, "\"" );
}

static void
make_order_tails(
    const pf_template *t, pf_writer *message, pf_writer *fields, const char *symbol, size_t symbol_len ) {
  PF_PUT_LIT( message, "," );
  put_symbol( message, symbol, symbol_len );
  PF_PUT_LIT( message, "}," );
  put_window( message, t->expiry_window );

  PF_PUT_LIT( fields, "," );
  put_window( fields, t->expiry_window );
  PF_PUT_LIT( fields, "," );
  put_symbol( fields, symbol, symbol_len );
  PF_PUT_LIT( fields, "," );
}

static void
put_all_orders( pf_writer *w, int exclude_reduce_only, const char *symbol, size_t symbol_len ) {
  PF_PUT_LIT( w, "\"all_symbols\":" );
  pf_put( w, symbol_len ? "false" : "true", symbol_len ? 5 : 4 );
  PF_PUT_LIT( w, ",\"exclude_reduce_only\":" );
  pf_put( w, exclude_reduce_only ? "true" : "false", exclude_reduce_only ? 4 : 5 );
  if( symbol_len ) {
    PF_PUT_LIT( w, "," );
    put_symbol( w, symbol, symbol_len );
  }
  PF_PUT_LIT( w, "}" );
}

static void
make_all_orders_tails( const pf_template *t,
                       pf_writer         *message,
                       pf_writer         *fields,
                       const char        *symbol,
                       size_t             symbol_len,
                       int                exclude_reduce_only ) {
  put_all_orders( message, exclude_reduce_only, symbol, symbol_len );
  PF_PUT_LIT( message, "," );
  put_window( message, t->expiry_window );

  PF_PUT_LIT( fields, "," );
  put_window( fields, t->expiry_window );
  PF_PUT_LIT( fields, "," );
  put_all_orders( fields, exclude_reduce_only, symbol, symbol_len );
}

static int
template_arguments_fit( int         kind,
                        const char *account,
                        size_t      account_len,
                        const char *agent,
                        size_t      agent_len,
                        const char *symbol,
                        size_t      symbol_len,
                        int64_t     expiry_window ) {
  int const symbol_fits = kind == PF_CANCEL_ORDER ? symbol_len > 0 : kind == PF_CANCEL_ALL || symbol_len == 0;
  return kind >= PF_CANCEL_ORDER && kind <= PF_OPERATION && symbol_fits && symbol_len <= PF_SYMBOL_MAX &&
         is_plain_text( symbol, symbol_len ) && expiry_window > 0 && is_pubkey( account, account_len ) &&
         ( !agent_len || is_pubkey( agent, agent_len ) );
}

int
pf_template_make( pf_template   *t,
                  int            kind,
                  const pf_key  *key,
                  const pf_pool *pool,
                  const char    *account,
                  size_t         account_len,
                  const char    *agent,
                  size_t         agent_len,
                  const char    *symbol,
                  size_t         symbol_len,
                  int            exclude_reduce_only,
                  int64_t        expiry_window ) {
  if( !template_arguments_fit( kind, account, account_len, agent, agent_len, symbol, symbol_len,
                               expiry_window ) ) {
    return PF_ERR_ARGUMENT;
  }
  memset( t, 0, sizeof( *t ) );
  t->key           = *key;
  t->pool          = pool ? *pool : ( pf_pool ){ NULL, 0 };
  t->clock         = &pf_clock_uncorrected;
  t->kind          = kind;
  t->expiry_window = (uint64_t)expiry_window;

  pf_writer     message  = pf_writer_on( t->message.text, sizeof( t->message.text ) );
  pf_writer     fields   = pf_writer_on( t->fields.text, sizeof( t->fields.text ) );
  int64_t const head_len = make_head( t, account, account_len, agent, agent_len );
  if( kind == PF_CANCEL_ORDER ) {
    make_order_tails( t, &message, &fields, symbol, symbol_len );
  } else if( kind == PF_CANCEL_ALL ) {
    make_all_orders_tails( t, &message, &fields, symbol, symbol_len, exclude_reduce_only );
  }
  if( head_len < 0 || pf_writer_len( &message ) < 0 || pf_writer_len( &fields ) < 0 ) {
    return PF_ERR_CAPACITY;
  }
  t->head_len    = (uint32_t)head_len;
  t->message.len = (uint32_t)pf_writer_len( &message );
  t->fields.len  = (uint32_t)pf_writer_len( &fields );
  return PF_OK;
}

void
pf_template_set_clock( pf_template *t, const pf_clock *clock ) {
  t->clock = clock;
}

int
pf_template_sign( const pf_template *t, uint8_t *signed_message, size_t len ) {
  return t->pool.place ? pf_key_sign_prepared( &t->key, &t->pool, signed_message, len )
                       : pf_key_sign( &t->key, signed_message, len );
}

/* One cancel.  The message is written, and signed, behind the room for
   its signature in a buffer that lives on this call's stack: nobody else
   can change it between libsodium's two readings. */

typedef struct {
  uint8_t signature[PF_SIGNATURE_SZ];
  char    message[MESSAGE_SZ];
} signed_message;

static int
sign_message( signed_message *s, const pf_writer *message, const pf_template *t ) {
  int64_t const len = pf_writer_len( message );
  return len < 0 ? (int)len : pf_template_sign( t, (uint8_t *)s, (size_t)len );
}

static void
put_order_ref( pf_writer *w, const order_ref *order ) {
  if( order->client_order_id ) {
    PF_PUT_LIT( w, "\"client_order_id\":\"" );
    pf_put( w, order->client_order_id, PF_CLIENT_ORDER_ID_LEN );
    PF_PUT_LIT( w, "\"" );
  } else {
    PF_PUT_LIT( w, "\"order_id\":" );
    pf_put_u64( w, order->number );
  }
}

/* put_signature_and_time writes what every signed object starts with. */

static void
put_signature_and_time( pf_writer         *w,
                        const pf_template *t,
                        const uint8_t      signature[PF_SIGNATURE_SZ],
                        uint64_t           timestamp ) {
  pf_put( w, t->head, t->head_len );
  (void)pf_base58_put( w, signature, PF_SIGNATURE_SZ );
  PF_PUT_LIT( w, "\",\"timestamp\":" );
  pf_put_u64( w, timestamp );
  pf_put( w, t->fields.text, t->fields.len );
}

static int
put_signed_order( pf_writer *w, const pf_template *t, const order_ref *order, uint64_t timestamp ) {
  signed_message s;
  pf_writer      message = pf_writer_on( s.message, sizeof( s.message ) );
  PF_PUT_LIT( &message, "{\"data\":{" );
  put_order_ref( &message, order );
  pf_put( &message, t->message.text, t->message.len );
  PF_PUT_LIT( &message, ",\"timestamp\":" );
  pf_put_u64( &message, timestamp );
  PF_PUT_LIT( &message, ",\"type\":\"cancel_order\"}" );

  int const rc = sign_message( &s, &message, t );
  if( PF_UNLIKELY( rc != PF_OK ) ) {
    return rc;
  }
  put_signature_and_time( w, t, s.signature, timestamp );
  put_order_ref( w, order );
  PF_PUT_LIT( w, "}" );
  return PF_OK;
}

static int
put_signed_all_orders( pf_writer *w, const pf_template *t, uint64_t timestamp ) {
  signed_message s;
  pf_writer      message = pf_writer_on( s.message, sizeof( s.message ) );
  PF_PUT_LIT( &message, "{\"data\":{" );
  pf_put( &message, t->message.text, t->message.len );
  PF_PUT_LIT( &message, ",\"timestamp\":" );
  pf_put_u64( &message, timestamp );
  PF_PUT_LIT( &message, ",\"type\":\"cancel_all_orders\"}" );

  int const rc = sign_message( &s, &message, t );
  if( PF_LIKELY( rc == PF_OK ) ) {
    put_signature_and_time( w, t, s.signature, timestamp );
  }
  return rc;
}

static int64_t
finish( const pf_writer *w, int rc ) {
  return PF_UNLIKELY( rc != PF_OK ) ? rc : pf_writer_len( w );
}

static int64_t
cancel_order( char              *out,
              size_t             cap,
              const pf_template *t,
              const order_ref   *order,
              int64_t            timestamp,
              uint64_t           number,
              const char        *request_id,
              size_t             id_len ) {
  timestamp = pf_timestamp( t->clock, timestamp );
  if( PF_UNLIKELY( t->kind != PF_CANCEL_ORDER || timestamp < 0 ) ) {
    return timestamp < 0 ? timestamp : PF_ERR_ARGUMENT;
  }
  pf_key_prefetch( &t->key, t->pool.place ? &t->pool : NULL );
  pf_writer w  = pf_writer_on( out, cap );
  int       rc = pf_put_envelope( &w, number, request_id, id_len );
  if( PF_LIKELY( rc == PF_OK ) ) {
    PF_PUT_LIT( &w, "cancel_order\":" );
    rc = put_signed_order( &w, t, order, (uint64_t)timestamp );
    PF_PUT_LIT( &w, "}}" );
  }
  return finish( &w, rc );
}

int64_t
pf_cancel_order_id( char              *out,
                    size_t             cap,
                    const pf_template *t,
                    uint64_t           order_id,
                    int64_t            timestamp,
                    uint64_t           number,
                    const char        *request_id,
                    size_t             id_len ) {
  order_ref const order = { order_id, NULL };
  return cancel_order( out, cap, t, &order, timestamp, number, request_id, id_len );
}

int64_t
pf_blank_order_id( const pf_blank *b, uint64_t order_id, int64_t timestamp ) {
  return pf_cancel_order_id( b->out, b->cap, b->t, order_id, timestamp, 0, NULL, 0 );
}

int64_t
pf_cancel_client_order_id( char              *out,
                           size_t             cap,
                           const pf_template *t,
                           const char        *client_order_id,
                           size_t             client_len,
                           int64_t            timestamp,
                           uint64_t           number,
                           const char        *request_id,
                           size_t             id_len ) {
  if( PF_UNLIKELY( !pf_is_uuid( client_order_id, client_len ) ) ) {
    return PF_ERR_ARGUMENT;
  }
  order_ref const order = { 0, client_order_id };
  return cancel_order( out, cap, t, &order, timestamp, number, request_id, id_len );
}

int64_t
pf_cancel_all_orders( char              *out,
                      size_t             cap,
                      const pf_template *t,
                      int64_t            timestamp,
                      uint64_t           number,
                      const char        *request_id,
                      size_t             id_len ) {
  timestamp = pf_timestamp( t->clock, timestamp );
  if( PF_UNLIKELY( t->kind != PF_CANCEL_ALL || timestamp < 0 ) ) {
    return timestamp < 0 ? timestamp : PF_ERR_ARGUMENT;
  }
  pf_writer w  = pf_writer_on( out, cap );
  int       rc = pf_put_envelope( &w, number, request_id, id_len );
  if( PF_LIKELY( rc == PF_OK ) ) {
    PF_PUT_LIT( &w, "cancel_all_orders\":" );
    rc = put_signed_all_orders( &w, t, (uint64_t)timestamp );
    PF_PUT_LIT( &w, "}}" );
  }
  return finish( &w, rc );
}

static int
put_batch_item( pf_writer *w, const pf_cancel_item *item, uint64_t timestamp ) {
  int const by_client = item->by_client_order_id;
  if( !item->order || item->order->kind != PF_CANCEL_ORDER ||
      ( by_client && !pf_is_uuid( item->client_order_id, sizeof( item->client_order_id ) ) ) ) {
    return PF_ERR_ARGUMENT;
  }
  order_ref const order = { item->order_id, by_client ? item->client_order_id : NULL };
  PF_PUT_LIT( w, "{\"type\":\"Cancel\",\"data\":" );
  int const rc = put_signed_order( w, item->order, &order, timestamp );
  PF_PUT_LIT( w, "}" );
  return rc;
}

int64_t
pf_batch_cancel( char                 *out,
                 size_t                cap,
                 const pf_cancel_item *items,
                 size_t                count,
                 int64_t               timestamp,
                 uint64_t              number,
                 const char           *request_id,
                 size_t                id_len ) {
  if( PF_UNLIKELY( count < 1 || count > PF_BATCH_ITEMS_MAX || !items[0].order ) ) {
    return PF_ERR_ARGUMENT;
  }
  timestamp = pf_timestamp( items[0].order->clock, timestamp );
  if( PF_UNLIKELY( timestamp < 0 ) ) {
    return timestamp;
  }
  pf_writer w  = pf_writer_on( out, cap );
  int       rc = pf_put_envelope( &w, number, request_id, id_len );
  PF_PUT_LIT( &w, "batch_orders\":{\"actions\":[" );
  for( size_t i = 0; i < count && rc == PF_OK; i++ ) {
    if( i ) {
      PF_PUT_LIT( &w, "," );
    }
    rc = put_batch_item( &w, &items[i], (uint64_t)timestamp );
  }
  PF_PUT_LIT( &w, "]}}}" );
  return finish( &w, rc );
}
