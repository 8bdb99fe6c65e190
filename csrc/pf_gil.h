/* SPDX-License-Identifier: MIT */
#ifndef PF_GIL_H
#define PF_GIL_H

/* pf_gil.h: what the core has to do with Python: when calls give up the
   GIL.  Included by the generated cffi module alone, behind Python.h.

   cffi wraps every call in Py_BEGIN_ALLOW_THREADS.  With one other busy
   Python thread, getting the GIL back costs the switch interval, 5 ms,
   for a call of 3 us.  So the wrappers that cffi generates below this
   header keep the GIL: the two macros become braces. */

#undef Py_BEGIN_ALLOW_THREADS
#undef Py_END_ALLOW_THREADS
#define Py_BEGIN_ALLOW_THREADS {
#define Py_END_ALLOW_THREADS }

/* On a free-threaded CPython the GIL comes back, with CPython's warning:
   the core does without, by its atomics, but in the Python above it a few
   steps that must be one are one only under the GIL (docs/platforms.md).
   cffi says of every module that it needs none; this is said after it. */

#if defined( Py_TARGET_ABI3T )
#error "pacifica_fast does not support the stable ABI of free-threaded CPython yet"
#elif defined( Py_GIL_DISABLED )
static PyObject *
pf_init( const char *name, Py_ssize_t version, const struct _cffi_type_context_s *context ) {
  PyObject *module = _cffi_init( name, version, context );
  if( module && PyUnstable_Module_SetGIL( module, Py_MOD_GIL_USED ) < 0 ) {
    Py_CLEAR( module );
  }
  return module;
}
#define _cffi_init pf_init
#endif

/* Twins of the functions that can take long, with large input or by
   waiting.  They give up the GIL themselves.  Python calls them for
   inputs over 16 KiB; the bytes they read must not change meanwhile, so
   they get exact `bytes`, or copies. */

#define PF_DETACHED( type, call )                                                                              \
  PyThreadState *thread = PyEval_SaveThread();                                                                 \
  type const     result = call;                                                                                \
  PyEval_RestoreThread( thread );                                                                              \
  return result

/* clang-format off */
/* cdef begin */

static size_t
pf_canonical_bound_detached( const char *text, size_t len );

static int64_t
pf_canonicalize_detached( char *out, size_t cap, const char *text, size_t len, int surrogates,
                          size_t *position );

static int
pf_key_end_detached( const pf_key *key );

static int64_t
pf_key_sign_bytes_detached( char *out, size_t cap, const pf_key *key, const char *message, size_t len );

static size_t
pf_sign_many_detached( char *out, const pf_key *key, const char *const *messages, const size_t *lens,
                       size_t count, int *error );

static int
pf_pool_refill_detached( const pf_pool *pool, const pf_key *key );

static int
pf_pool_end_detached( const pf_pool *pool );

static int
pf_armed_keep_detached( const pf_armed_store *store );

static int
pf_armed_close_detached( const pf_armed_store *store );

static int64_t
pf_sdk_sign_key_detached( char *out, size_t cap, const char *json, size_t len, const pf_key *key );

static int64_t
pf_sdk_sign_pair_detached( char *out, size_t cap, const char *json, size_t len, char *pair );

static int64_t
pf_sign_data_detached( char *out, size_t cap, const pf_template *t, const char *operation,
                       size_t operation_len, const char *json, size_t len, int64_t timestamp,
                       size_t *position );

static int64_t
pf_request_detached( char *out, size_t cap, const pf_template *t, const char *operation, size_t operation_len,
                     const char *json, size_t len, int64_t timestamp, uint64_t number,
                     const char *request_id, size_t id_len, size_t *position );

/* cdef end */
/* clang-format on */

static size_t
pf_canonical_bound_detached( const char *text, size_t len ) {
  PF_DETACHED( size_t, pf_canonical_bound( text, len ) );
}

static int64_t
pf_canonicalize_detached(
    char *out, size_t cap, const char *text, size_t len, int surrogates, size_t *position ) {
  PF_DETACHED( int64_t, pf_canonicalize( out, cap, text, len, surrogates, position ) );
}

static int
pf_key_end_detached( const pf_key *key ) {
  PF_DETACHED( int, pf_key_end( key ) );
}

static int64_t
pf_key_sign_bytes_detached( char *out, size_t cap, const pf_key *key, const char *message, size_t len ) {
  PF_DETACHED( int64_t, pf_key_sign_bytes( out, cap, key, message, len ) );
}

static size_t
pf_sign_many_detached(
    char *out, const pf_key *key, const char *const *messages, const size_t *lens, size_t count, int *error ) {
  PF_DETACHED( size_t, pf_sign_many( out, key, messages, lens, count, error ) );
}

/* For a thread of its own, which it makes a background thread. */

static int
pf_refill( const pf_pool *pool, const pf_key *key ) {
  pf_thread_yield_to_others();
  return pf_key_refill( key, pool );
}

static int
pf_pool_refill_detached( const pf_pool *pool, const pf_key *key ) {
  PF_DETACHED( int, pf_refill( pool, key ) );
}

static int
pf_pool_end_detached( const pf_pool *pool ) {
  PF_DETACHED( int, pf_pool_end( pool ) );
}

static int
pf_armed_keep_detached( const pf_armed_store *store ) {
  PF_DETACHED( int, pf_armed_keep( store ) );
}

static int
pf_armed_close_detached( const pf_armed_store *store ) {
  PF_DETACHED( int, pf_armed_close( store ) );
}

static int64_t
pf_sdk_sign_key_detached( char *out, size_t cap, const char *json, size_t len, const pf_key *key ) {
  PF_DETACHED( int64_t, pf_sdk_sign_key( out, cap, json, len, key ) );
}

static int64_t
pf_sdk_sign_pair_detached( char *out, size_t cap, const char *json, size_t len, char *pair ) {
  PF_DETACHED( int64_t, pf_sdk_sign_pair( out, cap, json, len, pair ) );
}

static int64_t
pf_sign_data_detached( char              *out,
                       size_t             cap,
                       const pf_template *t,
                       const char        *operation,
                       size_t             operation_len,
                       const char        *json,
                       size_t             len,
                       int64_t            timestamp,
                       size_t            *position ) {
  PF_DETACHED( int64_t, pf_sign_data( out, cap, t, operation, operation_len, json, len, timestamp, position ) );
}

static int64_t
pf_request_detached( char              *out,
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
                     size_t            *position ) {
  PF_DETACHED( int64_t, pf_request( out, cap, t, operation, operation_len, json, len, timestamp, number,
                                    request_id, id_len, position ) );
}

#endif /* PF_GIL_H */
