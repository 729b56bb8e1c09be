/*
 * Whether a configuration, or a map of them, can be one at all. Asked of all
 * that comes over the wire or from a register, before anybody acts on it: what
 * follows relies on it with asserts. Pure.
 */
#ifndef COMMON_TABLET_CHECK_H
#define COMMON_TABLET_CHECK_H

#include "common/wire.h"

/* ST_INVALID unless: tablet, epoch and every node are numbers that there can
 * be; the hash range is one; I is not empty and, if there is a primary, has
 * it; no set names a replica twice; nobody of I is in E or learns (R2, R8). */
enum status tablet_check_config(const struct tablet_config *t) MUST_CHECK;

/* ST_INVALID unless every tablet passes, none comes twice (they are in order
 * of their numbers), and, once there are tablets, min_insync is what follows
 * from the number of replicas (R8). */
enum status tablet_check_map(const struct msg_map *m) MUST_CHECK;

#endif
