/*
 * penn-coordinatord: keeps the cluster's map (coordinator/coordinator.h).
 */
#include "coordinator/coordinatord_io.h"

int main(int argc, char **argv)
{
    return daemon_main(&coordinatord_spec, argc, argv);
}
