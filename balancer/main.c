/*
 * penn-balancerd: passes clients on to gateways (balancer/balancerd_io.h).
 */
#include "balancer/balancerd_io.h"

int main(int argc, char **argv)
{
    return daemon_main(&balancerd_spec, argc, argv);
}
