/*
 * What the kernel knows of this process, as Prometheus text.
 */
#ifndef COMMON_PROCESS_IO_H
#define COMMON_PROCESS_IO_H

#include "common/buf.h"

/* Appends build, memory, descriptors, processor time and uptime; leaves out
 * what cannot be read. Any thread. */
void process_metrics(struct buf *out);

#endif
