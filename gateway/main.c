/*
 * penn-gatewayd: mail and web clients' way to the store (gateway/front.h).
 */
#include "gateway/gateway_io.h"

int main(int argc, char **argv)
{
    return daemon_main(&gatewayd_spec, argc, argv);
}
