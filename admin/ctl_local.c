/*
 * pennctl local: hands over to the one-machine cluster (local.h).
 */
#include "admin/ctl.h"
#include "admin/local.h"

int ctl_cmd_local(struct ctl *c, int argc, char **argv)
{
    if (c->local_dir == NULL) {
        (void)fprintf(stderr, "pennctl: local needs --local DIR\n");
        return CTL_USAGE;
    }
    return local_command(c->local_dir, argc, argv);
}
