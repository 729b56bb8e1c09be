/*
 * Looking a checkpoint's file through on the medium, beside the loop, in
 * pieces: does every block have its checksum, is it whole?
 */
#ifndef STORAGE_CHECKPOINT_VERIFY_H
#define STORAGE_CHECKPOINT_VERIFY_H

#include "storage/checkpoint.h"

struct checkpoint_verify;

/* Which files there are: the N-th newest of a tablet into NAME (without the
 * folder). False if there are not so many. Blocks shortly. */
bool checkpoint_verify_name(struct env *env, const char *folder,
                            uint32_t tablet, size_t n,
                            char name[CHECKPOINT_NAME_MAX]);
/* Opens it; NULL, and *STATUS says why, if that cannot be. */
struct checkpoint_verify *checkpoint_verify_new(struct env *env,
                                                const char *folder,
                                                const char *name,
                                                enum status *status);
/* Not while a read is under way, unless the env's process is dead. */
void checkpoint_verify_free(struct checkpoint_verify *v);
/* Asks for the next piece; returns its bytes. IO is told when it is there. */
size_t checkpoint_verify_ask(struct checkpoint_verify *v, struct env_io *io);
/* After IO was told READ: ST_MORE, there is another piece; ST_OK, the file is
 * whole; ST_CORRUPT, with the place in *AT; another failure of reading. */
enum status checkpoint_verify_take(struct checkpoint_verify *v,
                                   enum status read, uint64_t *at) MUST_CHECK;

#endif
