/*
 * The memory of a tree's nodes: one block of the heap each, counted in the
 * account of its tree, and with it the references to nodes.
 *
 * Blocks are sized so that what glibc puts in front fills the last 16 bytes,
 * and in steps of a thirty-second or less: a leaf that cells are put into one
 * by one has hardly any room to spare, and is moved for most of them. Moving a
 * few KiB that were just looked at costs less than finding them did; room to
 * spare in each leaf would cost more memory than all that a cell has besides
 * its key and value.
 */
#include "storage/tree_private.h"

#include <malloc.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define MALLOC_HEAD sizeof(size_t)
#define MALLOC_ALIGN (2 * sizeof(size_t))
#define RESIZE_MAX (2 * LEAF_MAX) /* bytes moved by way of the stack */

/* ---- blocks ---- */

size_t tree_node_block(const struct tree_node *n)
{
    return malloc_usable_size((void *)n) + MALLOC_HEAD;
}

static size_t round_up(size_t v, size_t step)
{
    return (v + step - 1) / step * step;
}

/* The size of a block for NEED bytes. */
static size_t block_class(size_t need, bool exact)
{
    size_t step = MALLOC_ALIGN;
    while (!exact && step * 64 <= need) {
        step *= 2;
    }
    return round_up(need + MALLOC_HEAD, step) - MALLOC_HEAD;
}

static struct tree_node *block_new(struct account *a, bool leaf, size_t cap)
{
    struct tree_node *n = xmalloc(cap);
    *n = (struct tree_node){
        .refs = 1, .cap = (uint32_t)cap, .used = TREE_HEAD, .leaf = leaf};
    a->bytes += tree_node_block(n);
    return n;
}

struct tree_node *tree_node_new(struct account *a, bool leaf, size_t cap)
{
    return block_new(a, leaf,
                     block_class(cap < TREE_HEAD ? TREE_HEAD : cap, false));
}

struct tree_node *tree_node_exact(struct account *a, bool leaf, size_t need)
{
    return block_new(a, leaf, block_class(need, true));
}

static void block_free(struct account *a, struct tree_node *n)
{
    a->bytes -= tree_node_block(n);
    free(n);
}

size_t tree_node_size(const struct tree_node *n)
{
    return n->used + TREE_WORD * n->count;
}

/* Moves the directory to where a block of CAP bytes has its end. */
static void move_words(struct tree_node *n, size_t cap)
{
    size_t len = TREE_WORD * n->count;
    memmove((uint8_t *)n + cap - len, (uint8_t *)n + n->cap - len, len);
    n->cap = (uint32_t)cap;
}

static struct tree_node *block_realloc(struct account *a, struct tree_node *n,
                                       size_t cap)
{
    size_t was = n->cap;
    a->bytes -= tree_node_block(n);
    if (cap < was) {
        move_words(n, cap);
    }
    n = xrealloc(n, cap);
    if (cap > was) {
        move_words(n, cap);
    }
    a->bytes += tree_node_block(n);
    return n;
}

/* The old block is freed before the new one is taken, with the contents on the
 * stack meanwhile: so the new one may overlap it, sliding down into the hole
 * before it. realloc() only grows into the one behind, and leaves half as many
 * holes more. */
struct tree_node *tree_node_resize(struct account *a, struct tree_node *n,
                                   size_t need)
{
    uint8_t room[RESIZE_MAX];
    size_t used = n->used, len = TREE_WORD * n->count;
    size_t cap = block_class(need, false);
    if (used + len > sizeof(room)) {
        return block_realloc(a, n, cap);
    }
    memcpy(room, n, used);
    memcpy(room + used, (uint8_t *)n + n->cap - len, len);
    block_free(a, n);
    n = xmalloc(cap);
    memcpy(n, room, used);
    memcpy((uint8_t *)n + cap - len, room + used, len);
    n->cap = (uint32_t)cap;
    a->bytes += tree_node_block(n);
    return n;
}

struct tree_node *tree_node_shrink(struct account *a, struct tree_node *n,
                                   bool exact)
{
    size_t need = tree_node_size(n);
    size_t cap = block_class(need, exact);
    size_t slack = exact ? 0 : need / 4;
    return cap + slack < n->cap ? block_realloc(a, n, cap) : n;
}

/* One by one, the pages of a growing heap are brought in while its lock is
 * held, and other threads wait for that. The allocator gives this piece out
 * again, from the same place. */
void tree_expect(size_t bytes)
{
    const uintptr_t page = 4096;
    uint8_t *p = malloc(bytes);
    if (p == NULL) {
        return;
    }
    uintptr_t from = ((uintptr_t)p + page - 1) / page * page;
    uintptr_t to = ((uintptr_t)p + bytes) / page * page;
#ifdef MADV_POPULATE_WRITE
    if (from < to) {
        (void)madvise((void *)from, to - from, MADV_POPULATE_WRITE);
    }
#endif
    free(p);
}

/* ---- references ---- */

static void children_retain(const struct tree_node *n)
{
    for (int i = 0; !n->leaf && i < n->count; i++) {
        tree_node_child(n, i)->refs++;
    }
}

/* As deep as the tree, no deeper. */
void tree_node_release(struct account *a, struct tree_node *n)
{
    if (--n->refs > 0) {
        return;
    }
    for (int i = 0; !n->leaf && i < n->count; i++) {
        tree_node_release(a, tree_node_child(n, i));
    }
    block_free(a, n);
}

void tree_node_pass_on(struct account *a, struct tree_node *n)
{
    if (n->refs == 1) {
        block_free(a, n);
    } else {
        n->refs--;
        children_retain(n);
    }
}

struct tree_node *tree_node_copy(struct account *a, struct tree_node *n)
{
    size_t cap = block_class(tree_node_size(n), false),
           len = TREE_WORD * n->count;
    struct tree_node *c = block_new(a, n->leaf, cap);
    memcpy(c->bytes, n->bytes, n->used - TREE_HEAD);
    memcpy((uint8_t *)c + cap - len, (const uint8_t *)n + n->cap - len, len);
    c->used = n->used;
    c->count = n->count;
    c->prefix = n->prefix;
    tree_node_pass_on(a, n);
    return c;
}
