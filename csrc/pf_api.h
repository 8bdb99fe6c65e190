/* SPDX-License-Identifier: MIT */
#ifndef PF_API_H
#define PF_API_H

/* pf_api.h: the only functions that Python sees.  build_native.py hands
   everything between the two "cdef" lines to cffi as it stands, so this
   header and the cffi declarations cannot drift.  Hence only plain
   declarations there, and `char *` where bytes are meant: at the Python
   boundary it is cheaper than `uint8_t *`.

   Every function that returns int64_t returns bytes written, or what it
   says, or a negative PF_ERR_* code, which pf_error_text puts in words.
   None of these touches Python or gives up the GIL; pf_gil.h has the
   twins that do, for work that takes long. */

#include <stddef.h>
#include <stdint.h>

/* cdef begin */

/* libsodium's functions, with libsodium's own types.  A minimal build
   lacks the three that only prepared signing needs; they may be NULL. */

typedef struct {
  int ( *crypto_sign )(
      unsigned char *, unsigned long long *, const unsigned char *, unsigned long long, const unsigned char * );
  int ( *crypto_sign_seed_keypair )( unsigned char *, unsigned char *, const unsigned char * );
  int ( *crypto_hash_sha512 )( unsigned char *, const unsigned char *, unsigned long long );
  void ( *randombytes )( unsigned char *, unsigned long long );
  void ( *scalar_reduce )( unsigned char *, const unsigned char * );
  void ( *scalar_mul )( unsigned char *, const unsigned char *, const unsigned char * );
  int ( *scalarmult_base_noclamp )( unsigned char *, const unsigned char * );
  void ( *sodium_add )( unsigned char *, const unsigned char *, size_t );
} pf_sodium;

/* A handle of an open key; see pf_signer.h. */

typedef struct {
  void    *slot;
  uint64_t generation;
} pf_key;

/* A handle of an open pool of prepared nonces; see pf_nonce.h. */

typedef struct {
  void    *place;
  uint64_t generation;
} pf_pool;

typedef struct {
  uint64_t prepared;      /* signatures made with a nonce of the pool */
  uint64_t deterministic; /* signatures made without, because none was ready */
  uint64_t refilled;      /* nonces made */
  uint64_t burnt;         /* nonces thrown away unused */
  uint64_t ready;         /* nonces to use */
} pf_pool_stats;

/* A handle of an open store of armed cancels; see pf_armed.h. */

typedef struct {
  void    *place;
  uint64_t generation;
} pf_armed_store;

/* What timestamps are corrected by; see pf_clock.h.  All zero: nothing. */

typedef struct pf_clock pf_clock;

/* A template, and room for one cancel made with it: PF_FRAME_MAX bytes
   suffice.  To a cold processor every argument that comes from Python
   costs another 0.5 us; these three are one. */

typedef struct pf_template pf_template;

typedef struct {
  const pf_template *t; /* made with PF_CANCEL_ORDER */
  char              *out;
  size_t             cap;
} pf_blank;

/* What it takes to fire one armed cancel, likewise in one argument. */

typedef struct {
  pf_armed_store store;
  int64_t        handle;
  char          *out; /* where the frame goes: at least PF_FRAME_MAX bytes */
  size_t         cap;
} pf_armed_shot;

/* One cancel of a batch: the template of its symbol, and the order id or
   the 36 characters of the client order id. */

typedef struct {
  const pf_template *order; /* made with PF_CANCEL_ORDER */
  uint64_t           order_id;
  char               client_order_id[36];
  int                by_client_order_id;
} pf_cancel_item;

/* pf_bind_sodium copies the table and makes the private pages: once, at
   import. */

int pf_bind_sodium( const pf_sodium *table );

/* pf_error_text describes a negative code in a few words; never NULL. */

const char *pf_error_text( int64_t code );

/* pf_pages_state reports the private mappings of this process, and how
   many of them could not be locked in RAM. */

void pf_pages_state( size_t *mapped, size_t *unlocked );

void pf_wipe_bytes( char *bytes, size_t n );

/* Base58; see pf_base58.h.  Encoding takes 32 or 64 bytes. */

int64_t pf_b58encode( char *out, size_t cap, const char *bytes, size_t n );

int64_t pf_b58decode( char *out, size_t cap, const char *text, size_t len );

int pf_b58decode_exact( char *out, size_t n, const char *text, size_t len );

/* Canonical JSON; see pf_json.h.  pf_canonical_bound is the capacity
   that is certain to suffice.  On error *position is the offset in text. */

size_t pf_canonical_bound( const char *text, size_t len );

int64_t
pf_canonicalize( char *out, size_t cap, const char *text, size_t len, int surrogates, size_t *position );

/* Keys; see pf_signer.h.  pf_key_open_seed reads 32 bytes.  pubkey gets
   32 bytes. */

int pf_key_open_seed( pf_key *key, char *pubkey, const char *seed );

int pf_key_generate( pf_key *key, char *pubkey );

int pf_key_end( const pf_key *key );

/* pf_key_sign_bytes writes the 64-byte signature of the message to out. */

int64_t pf_key_sign_bytes( char *out, size_t cap, const pf_key *key, const char *message, size_t len );

/* pf_sign_many signs count messages, deterministically.  For each it
   writes PF_SIGNATURE_TEXT_SZ bytes: the signature in base58, and in the
   last byte how many characters that are.  Returns how many it signed:
   fewer than count only with the error code of the next in *error. */

#define PF_SIGNATURE_TEXT_SZ 89

size_t pf_sign_many(
    char *out, const pf_key *key, const char *const *messages, const size_t *lens, size_t count, int *error );

/* Pools of prepared nonces; see pf_nonce.h.  pf_pool_refill_detached, in
   pf_gil.h, keeps one full.  pf_pool_prepare makes one nonce. */

#define PF_NONCES_MAX 65536

int pf_pool_make( pf_pool *pool, size_t size, int64_t max_age_ms, const pf_key *key );

int pf_pool_prepare( const pf_pool *pool, const pf_key *key );

int pf_pool_state( const pf_pool *pool, pf_pool_stats *stats );

int pf_pool_end( const pf_pool *pool );

int64_t pf_key_sign_bytes_prepared(
    char *out, size_t cap, const pf_key *key, const pf_pool *pool, const char *message, size_t len );

/* The drop-in: json in any key order, made canonical, signed.  Writes the
   message and right behind it the signature in base58, and returns
   message length << 8 | signature length.  88 bytes more than
   pf_canonical_bound suffice.  pf_sdk_sign_pair takes 64 secret bytes,
   seed and public key, and wipes them before it returns, whatever the
   outcome. */

int64_t pf_sdk_sign_key( char *out, size_t cap, const char *json, size_t len, const pf_key *key );

int64_t pf_sdk_sign_pair( char *out, size_t cap, const char *json, size_t len, char *pair );

/* pf_is_uuid tells whether text is 36 characters of lower-case
   hexadecimal digits and hyphens, 8-4-4-4-12. */

int pf_is_uuid( const char *text, size_t len );

/* Request ids; see pf_random.h.  Returns the first number, or a negative
   code.  pf_id_text writes the 36 characters. */

int64_t pf_id_take( uint64_t count );

int64_t pf_id_text( char *out, size_t cap, uint64_t number );

/* Templates: all of a request that does not change from call to call;
   see pf_cancel.h.  The caller keeps t alive and in its place.
   agent_len 0: the account signs for itself.  pool NULL: signatures are
   deterministic. */

#define PF_CANCEL_ORDER 1 /* needs a symbol */
#define PF_CANCEL_ALL 2   /* no symbol: all of them */
#define PF_OPERATION 3    /* no symbol; for pf_request and pf_sign_data */

int pf_template_make( pf_template   *t,
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
                      int64_t        expiry_window );

/* pf_clock_correct sets what is added to every timestamp that is made
   here, in ms, or returns PF_ERR_ARGUMENT.  From any thread, at any time.
   pf_template_set_clock makes t one of those that clock is for, before
   its first use; clock stays alive for as long as t. */

#define PF_CORRECTION_MAX 86400000 /* either way */

int pf_clock_correct( pf_clock *clock, int64_t ms );

int64_t pf_clock_correction( const pf_clock *clock );

void pf_template_set_clock( pf_template *t, const pf_clock *clock );

/* Finished requests, each in one call.  timestamp is in ms, 0 for now,
   corrected by the template's clock; a batch has one, by its first item's.
   The id is request_id, or the text of number when id_len is 0, or of a
   number taken here when that is 0 too.  PF_REQUEST_MAX is a capacity
   that suffices for every single cancel, PF_BATCH_MAX for every batch. */

#define PF_REQUEST_MAX 768
#define PF_BATCH_MAX 6144
#define PF_BATCH_ITEMS_MAX 10

int64_t pf_cancel_order_id( char              *out,
                            size_t             cap,
                            const pf_template *t,
                            uint64_t           order_id,
                            int64_t            timestamp,
                            uint64_t           number,
                            const char        *request_id,
                            size_t             id_len );

/* pf_blank_order_id does the same on a blank, with an id of its own. */

int64_t pf_blank_order_id( const pf_blank *blank, uint64_t order_id, int64_t timestamp );

int64_t pf_cancel_client_order_id( char              *out,
                                   size_t             cap,
                                   const pf_template *t,
                                   const char        *client_order_id,
                                   size_t             client_len,
                                   int64_t            timestamp,
                                   uint64_t           number,
                                   const char        *request_id,
                                   size_t             id_len );

int64_t pf_cancel_all_orders( char              *out,
                              size_t             cap,
                              const pf_template *t,
                              int64_t            timestamp,
                              uint64_t           number,
                              const char        *request_id,
                              size_t             id_len );

int64_t pf_batch_cancel( char                 *out,
                         size_t                cap,
                         const pf_cancel_item *items,
                         size_t                count,
                         int64_t               timestamp,
                         uint64_t              number,
                         const char           *request_id,
                         size_t                id_len );

/* Websocket frames, masked; see pf_frame.h.  pf_frame_text takes any
   text, UTF-8, in another place than out; 14 bytes more than its length
   suffice.  The others write what pf_cancel_order_id and
   pf_cancel_client_order_id do, as a frame on a blank, with an id from
   number alone.

   pf_frame_again copies frames, one behind the other and len bytes
   together, each under another unpredictable mask key: for a second
   connection.  Returns len; PF_ERR_ARGUMENT for anything but whole masked
   text frames, PF_ERR_CAPACITY, PF_ERR_UNBOUND.  out and frames must not
   overlap. */

#define PF_FRAME_MAX 776

int64_t pf_frame_text( char *out, size_t cap, const char *text, size_t len );
int64_t pf_frame_again( char *out, size_t cap, const char *frames, size_t len );

int64_t
pf_frame_cancel_order_id( const pf_blank *blank, uint64_t order_id, int64_t timestamp, uint64_t number );

int64_t pf_frame_cancel_client_order_id(
    const pf_blank *blank, const char *client_order_id, size_t client_len, int64_t timestamp, uint64_t number );

/* Armed cancels; see pf_armed.h.  pf_armed_keep_detached and
   pf_armed_close_detached, in pf_gil.h, keep them fresh and end it. */

int pf_armed_open( pf_armed_store *store );

/* pf_armed_add signs and frames a cancel of t's symbol, and returns its
   handle, >= 0, or PF_ERR_ARGUMENT, PF_ERR_MEMORY, PF_ERR_CLOSED (the
   store, or the key), or an error of pf_cancel_order_id.  client_len 0:
   by order_id.  number is of pf_id_take; the id stays the same however
   often the cancel is signed.  t, which must have no pool, stays alive
   until the store is closed.  All templates of a store have one clock,
   which stays alive as long, whatever this returns. */

int64_t pf_armed_add( const pf_armed_store *store,
                      const pf_template    *t,
                      uint64_t              order_id,
                      const char           *client_order_id,
                      size_t                client_len,
                      uint64_t              number );

/* pf_armed_fire writes the frame to shot->out and returns its length.  The entry is spent then, and also with
   PF_ERR_STALE: too old.  PF_ERR_SPENT: it was spent before.  Nothing is
   spent with PF_ERR_CAPACITY and PF_ERR_CLOCK.  Never waits. */

int64_t pf_armed_fire( const pf_armed_shot *shot );

/* pf_armed_fire_many does it for count handles: frames one behind the
   other.  ends[i] is where the frame of handles[i] ends, or its
   PF_ERR_SPENT or PF_ERR_STALE.  Returns the length of all; below
   count * PF_FRAME_MAX bytes of room, PF_ERR_CAPACITY. */

int64_t pf_armed_fire_many(
    char *out, size_t cap, const pf_armed_store *store, const int64_t *handles, size_t count, int64_t *ends );

/* pf_armed_drop wipes an entry unsent.  Never waits.  PF_OK or
   PF_ERR_SPENT. */

int pf_armed_drop( const pf_armed_store *store, int64_t handle );

/* pf_armed_counts reports how many are armed, stale ones among them, and
   how often any was signed anew. */

int pf_armed_counts( const pf_armed_store *store, uint64_t *armed, uint64_t *resigned );

/* pf_send hands len bytes to the socket *fd without ever waiting, and
   without SIGPIPE where the system can.  Returns how many the kernel
   took, 0 if it takes none just now, or minus errno: then it took none.
   Whoever closes the socket puts -1 there first: the number of a closed
   descriptor is soon another's. */

int64_t pf_send( const int *fd, const char *data, size_t len );

/* Any other operation; see pf_operation.h.  json is the payload, an
   object.  A member that pf_request adds itself (account, agent_wallet,
   signature, timestamp, expiry_window) would stand in the request twice:
   whoever calls it has refused a payload that has one.  pf_operation_bound is a capacity that suffices.  pf_sign_data
   writes and returns what pf_sdk_sign_key does. */

size_t pf_operation_bound( const char *json, size_t len );

int64_t pf_sign_data( char              *out,
                      size_t             cap,
                      const pf_template *t,
                      const char        *operation,
                      size_t             operation_len,
                      const char        *json,
                      size_t             len,
                      int64_t            timestamp,
                      size_t            *position );

int64_t pf_request( char              *out,
                    size_t             cap,
                    const pf_template *t,
                    const char        *operation,
                    size_t             operation_len,
                    const char        *json,
                    size_t             len,
                    int64_t            timestamp,
                    uint64_t           number,
                    const char        *request_id,
                    size_t             id_len,
                    size_t            *position );

/* cdef end */

#endif /* PF_API_H */
