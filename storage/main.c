/*
 * penn-storaged: keeps replicas of tablets (storage/node.h).
 */
#include "storage/storaged_io.h"

int main(int argc, char **argv)
{
    return daemon_main(&storaged_spec, argc, argv);
}
