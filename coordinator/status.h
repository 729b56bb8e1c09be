/*
 * The coordinator's part of /status.
 */
#ifndef COORDINATOR_STATUS_H
#define COORDINATOR_STATUS_H

#include <cjson/cJSON.h>

#include "coordinator/coordinator.h"

/* Adds to OUT what coordinator_status() in status.c describes. */
void coordinator_status(const struct coordinator *c, cJSON *out);

#endif
