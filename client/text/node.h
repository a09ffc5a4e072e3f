/* A text file as a tree of scalars, sequences and mappings, each with its place. Held in three
 * arrays, because a large policy has millions of nodes. */
#ifndef POSTERN_TEXT_NODE_H
#define POSTERN_TEXT_NODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum node_kind {
	NODE_NULL, /* nothing, "~" or "null" */
	NODE_PLAIN, /* a scalar without quotes: its field says what it means */
	NODE_QUOTED, /* a scalar that is text, whatever it looks like */
	NODE_SEQUENCE,
	NODE_MAPPING, /* its children are a key and a value in turn */
};

struct node {
	uint32_t line, column; /* from 1; columns count characters */
	uint32_t first; /* of its bytes in `text`, of its children in `children` */
	uint32_t count; /* bytes; children, of a mapping two an entry */
	uint8_t kind;
};

/* Zero-initialised = empty. */
struct node_tree {
	struct node *nodes;
	uint32_t *children;
	char *text; /* each scalar with a NUL behind it */
	size_t node_count, node_room, child_count, child_room, text_size, text_room;
	uint32_t root;
	bool has_root; /* false: a file of blanks and comments */
};

void node_tree_fini(struct node_tree *tree);
/* Gives back what growing took too much. */
void node_tree_trim(struct node_tree *tree);
/* False: memory. */
bool node_add(struct node_tree *tree, const struct node *node, uint32_t *ret_index);
bool node_add_text(struct node_tree *tree, const char *bytes, size_t size, uint32_t *ret_first);
bool node_add_children(
	struct node_tree *tree, const uint32_t *indices, size_t count, uint32_t *ret_first);

const struct node *node_root(const struct node_tree *tree); /* NULL: none */
/* A sequence's element, a mapping's key (even i) or value (odd i). */
const struct node *node_child(const struct node_tree *tree, const struct node *node, size_t i);
/* A scalar's bytes, NUL-terminated; "" for anything else. */
const char *node_text(const struct node_tree *tree, const struct node *node);
/* A mapping's value, NULL when the key is not there. */
const struct node *node_value(
	const struct node_tree *tree, const struct node *mapping, const char *key);

/* `array` becomes one with room for `more` elements behind `count`. False: memory. */
bool node_reserve(void **array, size_t count, size_t *room, size_t more, size_t size);

#endif
