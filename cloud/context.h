/*
 * Inside of struct cloud; for cloud/ alone.
 */
#ifndef CLOUD_CONTEXT_H
#define CLOUD_CONTEXT_H

#include "cloud/cloud.h"
#include "cloud/password.h"

struct cloud {
    struct cloud_options o; /* defaults filled in; pointers are copies */
    char **domains;         /* lower case; ends with NULL */
    char *postmaster;       /* or NULL */
    struct password_gate gate;
};

#endif
