/*
 * penn-storaged: keeps replicas of tablets (storage/node.h), or explains a
 * data directory (storage/inspect_io.h).
 */
#include "storage/inspect_io.h"
#include "storage/storaged_io.h"

int main(int argc, char **argv)
{
    if (inspect_asked(argc, argv)) {
        return inspect_main(argc, argv);
    }
    return daemon_main(&storaged_spec, argc, argv);
}
