/*
 * What a traced process meant and promised: of each tablet which entries there
 * ever were, what its state is after each of them, and how far others were
 * told that it is on disk. Entries' names are for ever and alike on all nodes,
 * so the traces of all of them may teach one ledger what they contain;
 * promises are of the one process whose disk is looked at.
 */
#ifndef TESTS_CRASH_LEDGER_H
#define TESTS_CRASH_LEDGER_H

#include "tests/crash/trace.h"

#define LEDGER_TABLETS 64

struct ledger;

/* Of one tablet, up to where the trace has come. */
struct promised {
    struct name name; /* held at least; {0, 0}: nothing */
    uint64_t epoch;
};

struct ledger *ledger_new(void);
void ledger_free(struct ledger *l);
/* Takes what T says of entries, states and values, not its promises. */
void ledger_learn(struct ledger *l, const struct trace *t);
/* Takes R's promise, if it is one. */
void ledger_step(struct ledger *l, const struct trace_record *r);

const struct promised *ledger_promised(const struct ledger *l, uint32_t tablet);
/* Of the start at hand; counter 0: none yet. */
const struct trace_identity *ledger_identity(const struct ledger *l);
/* The hash of an entry's payload; false if there never was such an entry. */
bool ledger_entry(const struct ledger *l, uint32_t tablet, struct name name,
                  uint64_t *hash);
bool ledger_state(const struct ledger *l, uint32_t tablet, struct name name,
                  struct id128 *digest);
/* The coordinator's: what it was to keep, and the highest term it told. */
bool ledger_value(const struct ledger *l, const struct trace_value *v);
uint64_t ledger_term(const struct ledger *l);

#endif
