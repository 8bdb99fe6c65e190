/* SPDX-License-Identifier: MIT */
#include "pf_sodium.h"

static pf_sodium bound_table;
static int       is_bound;

const pf_sodium *
pf_sodium_table( void ) {
  return PF_LIKELY( is_bound ) ? &bound_table : NULL;
}

int
pf_sodium_set( const pf_sodium *table ) {
  if( !table || !table->crypto_sign || !table->crypto_sign_seed_keypair || !table->crypto_hash_sha512 ||
      !table->randombytes ) {
    return PF_ERR_ARGUMENT;
  }
  bound_table = *table;
  is_bound    = 1;
  return PF_OK;
}

#if defined( __GNUC__ ) || defined( __clang__ )
#define NEVER_INLINED __attribute__( ( noinline ) )
#elif defined( _MSC_VER )
#define NEVER_INLINED __declspec( noinline )
#else
#define NEVER_INLINED
#endif

NEVER_INLINED void
pf_sodium_wipe_stack( void ) {
  uint8_t below[4096];
  pf_wipe( below, sizeof( below ) );
}

NEVER_INLINED void
pf_sodium_wipe_scalars( void ) {
  uint8_t below[512];
  pf_wipe( below, sizeof( below ) );
}
