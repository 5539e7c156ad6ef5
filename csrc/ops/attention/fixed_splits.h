/* How deterministic=True cuts a KV list: into at most AC_FIXED_SPLITS runs, by a rule that knows nothing but the list's
 * own length. A run has max(AC_FIXED_MIN_KEYS, ceil(length / AC_FIXED_SPLITS) rounded up to AC_FIXED_GRANULE) keys. */
#ifndef AC_OPS_ATTENTION_FIXED_SPLITS_H
#define AC_OPS_ATTENTION_FIXED_SPLITS_H

#define AC_FIXED_SPLITS 16
#define AC_FIXED_MIN_KEYS 512
#define AC_FIXED_GRANULE 64

#endif
