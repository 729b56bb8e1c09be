/*
 * Damage that a running shard finds (R16, R19).
 */
#ifndef STORAGE_SHARD_DAMAGE_H
#define STORAGE_SHARD_DAMAGE_H

struct shard;
struct tablet;

/* T's data here are damaged; WHAT, a literal, says what was found. Says so
 * loudly and stops serving T at once; a live replica takes over and T is
 * rebuilt from it (R16), unless it is all there is of its tablet: then only
 * what is damaged must be refused, by the caller. Not within a step; T's state
 * may be another object afterwards. */
void shard_condemn(struct shard *s, struct tablet *t, const char *what);

/* Recovery has found places of T that no segment of the log has: these values
 * are repaired from others, or, where that cannot be, T is to be rebuilt. */
void shard_repair_missing(struct shard *s, struct tablet *t);

#endif
