/* SPDX-License-Identifier: MIT */
#include "pf_operation.h"

#include "pf_clock.h"
#include "pf_json.h"

#include <stdlib.h>

/* What surrounds the payload in a message and in a request, at its
   longest: fixed text, operation name, template pieces, numbers. */

#define AROUND_MESSAGE_SZ ( 96 + PF_OPERATION_NAME_MAX + 2 * PF_U64_LEN )
#define AROUND_REQUEST_SZ                                                                                      \
  ( 96 + PF_CLIENT_ORDER_ID_LEN + PF_OPERATION_NAME_MAX + PF_HEAD_SZ + PF_TAIL_SZ + PF_BASE58_64_MAX_LEN +     \
    2 * PF_U64_LEN )

/* A workbench holds the message with room for its signature in front,
   and the JSON workspace: on the stack if both are small, else in one
   block of the heap. */

#define STACK_MESSAGE_SZ 2048
#define STACK_WORK_SZ 4096

typedef struct {
  uint64_t stack_work[STACK_WORK_SZ / 8];
  uint8_t  stack_message[PF_SIGNATURE_SZ + STACK_MESSAGE_SZ];
  void    *heap;
  void    *work;
  size_t   work_sz;
  uint8_t *signed_message;
  size_t   message_cap;
} workbench;

static int
workbench_open( workbench *b, const char *json, size_t len, size_t around ) {
  pf_json_size_t size;
  pf_json_measure( json, len, &size );
  b->heap        = NULL;
  b->work_sz     = pf_json_work_sz( &size );
  b->message_cap = size.output + around;
  if( PF_UNLIKELY( !b->work_sz || b->message_cap < around ) ) {
    return PF_ERR_MEMORY;
  }
  b->work           = b->stack_work;
  b->signed_message = b->stack_message;
  if( PF_LIKELY( b->work_sz <= STACK_WORK_SZ && b->message_cap <= STACK_MESSAGE_SZ ) ) {
    return PF_OK;
  }
  size_t const fixed_sz = PF_SIGNATURE_SZ + b->work_sz;
  if( fixed_sz < b->work_sz || b->message_cap > SIZE_MAX - fixed_sz ) {
    return PF_ERR_MEMORY;
  }
  b->heap = malloc( fixed_sz + b->message_cap );
  if( !b->heap ) {
    return PF_ERR_MEMORY;
  }
  b->work           = b->heap;
  b->signed_message = (uint8_t *)b->heap + b->work_sz;
  return PF_OK;
}

static void
workbench_close( workbench *b ) {
  free( b->heap );
}

static char *
message_of( const workbench *b ) {
  return (char *)b->signed_message + PF_SIGNATURE_SZ;
}

/* put_message_and_signature writes what pf_sdk_sign_key returns. */

static int64_t
put_message_and_signature( char *out, size_t cap, const workbench *b, size_t message_len ) {
  pf_writer w = pf_writer_on( out, cap );
  pf_put( &w, message_of( b ), message_len );
  (void)pf_base58_put( &w, b->signed_message, PF_SIGNATURE_SZ );
  int64_t const len = pf_writer_len( &w );
  return len < 0 ? len : (int64_t)( message_len << 8 ) | ( len - (int64_t)message_len );
}

static int
sign_with( const workbench *b, size_t message_len, const pf_key *key, const uint8_t *pair ) {
  return key ? pf_key_sign( key, b->signed_message, message_len )
             : pf_pair_sign( pair, b->signed_message, message_len );
}

int64_t
pf_sign_json( char *out, size_t cap, const char *json, size_t len, const pf_key *key, const uint8_t *pair ) {
  workbench b;
  int64_t   rc = workbench_open( &b, json, len, 0 );
  if( PF_UNLIKELY( rc != PF_OK ) ) {
    return rc;
  }
  size_t    position;
  pf_writer message = pf_writer_on( message_of( &b ), b.message_cap );
  rc                = pf_json_canonical( &message, json, len, 0, b.work, b.work_sz, &position );
  if( PF_LIKELY( rc >= 0 ) ) {
    size_t const message_len = (size_t)rc;
    rc                       = sign_with( &b, message_len, key, pair );
    if( PF_LIKELY( rc == PF_OK ) ) {
      rc = put_message_and_signature( out, cap, &b, message_len );
    }
  }
  workbench_close( &b );
  return rc;
}

/* Operations.  The payload is made canonical once, straight into the
   message, and copied from there into the request, without its braces. */

typedef struct {
  const char *name;
  size_t      name_len;
  uint64_t    timestamp;
  const char *payload; /* canonical, in the message */
  size_t      payload_len;
  size_t      message_len;
} operation;

static int
is_operation_name( const char *name, size_t len ) {
  for( size_t i = 0; i < len; i++ ) {
    char const c = name[i];
    if( !( c >= 'a' && c <= 'z' ) && !( c >= '0' && c <= '9' ) && c != '_' ) {
      return 0;
    }
  }
  return len > 0 && len <= PF_OPERATION_NAME_MAX;
}

/* starts_object tells it from any other value; what is wrong with a text
   that is no JSON at all is left to pf_json_canonical. */

static int
starts_object( const char *json, size_t len, size_t *at ) {
  *at = 0;
  while( *at < len && ( json[*at] == ' ' || json[*at] == '\t' || json[*at] == '\n' || json[*at] == '\r' ) ) {
    *at += 1;
  }
  return *at == len || json[*at] == '{';
}

static int64_t
sign_operation(
    workbench *b, const pf_template *t, operation *op, const char *json, size_t len, size_t *position ) {
  pf_writer message = pf_writer_on( message_of( b ), b->message_cap );
  PF_PUT_LIT( &message, "{\"data\":" );
  op->payload      = message.at;
  int64_t const rc = pf_json_canonical( &message, json, len, 0, b->work, b->work_sz, position );
  if( rc < 0 ) {
    return rc;
  }
  if( !starts_object( json, len, position ) ) {
    return PF_ERR_JSON_OBJECT;
  }
  op->payload_len = (size_t)rc;
  PF_PUT_LIT( &message, ",\"expiry_window\":" );
  pf_put_u64( &message, t->expiry_window );
  PF_PUT_LIT( &message, ",\"timestamp\":" );
  pf_put_u64( &message, op->timestamp );
  PF_PUT_LIT( &message, ",\"type\":\"" );
  pf_put( &message, op->name, op->name_len );
  PF_PUT_LIT( &message, "\"}" );
  int64_t const message_len = pf_writer_len( &message );
  if( message_len < 0 ) {
    return message_len;
  }
  op->message_len = (size_t)message_len;
  return pf_template_sign( t, b->signed_message, op->message_len );
}

/* signed_operation checks, opens the workbench and signs; the caller
   closes the workbench in every case. */

static int64_t
signed_operation( workbench         *b,
                  const pf_template *t,
                  operation         *op,
                  const char        *json,
                  size_t             len,
                  int64_t            timestamp,
                  size_t            *position ) {
  b->heap   = NULL;
  *position = 0;
  timestamp = pf_timestamp( t->clock, timestamp );
  if( timestamp < 0 ) {
    return timestamp;
  }
  if( t->kind != PF_OPERATION || !is_operation_name( op->name, op->name_len ) ) {
    return PF_ERR_ARGUMENT;
  }
  op->timestamp    = (uint64_t)timestamp;
  int64_t const rc = workbench_open( b, json, len, AROUND_MESSAGE_SZ );
  return rc == PF_OK ? sign_operation( b, t, op, json, len, position ) : rc;
}

static int
put_operation( pf_writer         *w,
               const workbench   *b,
               const pf_template *t,
               const operation   *op,
               uint64_t           number,
               const char        *request_id,
               size_t             id_len ) {
  int const rc = pf_put_envelope( w, number, request_id, id_len );
  pf_put( w, op->name, op->name_len );
  PF_PUT_LIT( w, "\":" );
  pf_put( w, t->head, t->head_len );
  (void)pf_base58_put( w, b->signed_message, PF_SIGNATURE_SZ );
  PF_PUT_LIT( w, "\",\"timestamp\":" );
  pf_put_u64( w, op->timestamp );
  PF_PUT_LIT( w, ",\"expiry_window\":" );
  pf_put_u64( w, t->expiry_window );
  if( op->payload_len > 2 ) {
    PF_PUT_LIT( w, "," );
    pf_put( w, op->payload + 1, op->payload_len - 2 );
  }
  PF_PUT_LIT( w, "}}}" );
  return rc;
}

size_t
pf_operation_bound( const char *json, size_t len ) {
  pf_json_size_t size;
  pf_json_measure( json, len, &size );
  return size.output + AROUND_REQUEST_SZ;
}

int64_t
pf_sign_data( char              *out,
              size_t             cap,
              const pf_template *t,
              const char        *name,
              size_t             name_len,
              const char        *json,
              size_t             len,
              int64_t            timestamp,
              size_t            *position ) {
  workbench b;
  operation op = { .name = name, .name_len = name_len };
  int64_t   rc = signed_operation( &b, t, &op, json, len, timestamp, position );
  if( rc == PF_OK ) {
    rc = put_message_and_signature( out, cap, &b, op.message_len );
  }
  workbench_close( &b );
  return rc;
}

int64_t
pf_request( char              *out,
            size_t             cap,
            const pf_template *t,
            const char        *name,
            size_t             name_len,
            const char        *json,
            size_t             len,
            int64_t            timestamp,
            uint64_t           number,
            const char        *request_id,
            size_t             id_len,
            size_t            *position ) {
  workbench b;
  operation op = { .name = name, .name_len = name_len };
  int64_t   rc = signed_operation( &b, t, &op, json, len, timestamp, position );
  if( rc == PF_OK ) {
    pf_writer w = pf_writer_on( out, cap );
    rc          = put_operation( &w, &b, t, &op, number, request_id, id_len );
    rc          = rc == PF_OK ? pf_writer_len( &w ) : rc;
  }
  workbench_close( &b );
  return rc;
}
