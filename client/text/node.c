#include "client/text/node.h"

#include <stdlib.h>
#include <string.h>

#define SMALLEST_ROOM 64

void node_tree_fini(struct node_tree *tree)
{
	free(tree->nodes);
	free(tree->children);
	free(tree->text);
	memset(tree, 0, sizeof(*tree));
}

/* A failure to shrink leaves what was. */
static void trim(void **array, size_t count, size_t *room, size_t size)
{
	void *less = count == 0 ? NULL : realloc(*array, count * size);

	if (less == NULL)
		return;
	*array = less;
	*room = count;
}

void node_tree_trim(struct node_tree *tree)
{
	trim((void **)&tree->nodes, tree->node_count, &tree->node_room, sizeof(*tree->nodes));
	trim((void **)&tree->children, tree->child_count, &tree->child_room,
		sizeof(*tree->children));
	trim((void **)&tree->text, tree->text_size, &tree->text_room, 1);
}

bool node_reserve(void **array, size_t count, size_t *room, size_t more, size_t size)
{
	size_t needed = *room == 0 ? SMALLEST_ROOM : *room;
	void *grown;

	if (more <= *room - count)
		return true;
	/* Half as much again: doubling would cost a large file twice its tree. */
	while (needed - count < more)
		needed += needed / 2;
	grown = reallocarray(*array, needed, size);
	if (grown == NULL)
		return false;
	*array = grown;
	*room = needed;
	return true;
}

bool node_add(struct node_tree *tree, const struct node *node, uint32_t *ret_index)
{
	if (tree->node_count >= UINT32_MAX ||
		!node_reserve((void **)&tree->nodes, tree->node_count, &tree->node_room, 1,
			sizeof(*tree->nodes)))
		return false;
	*ret_index = (uint32_t)tree->node_count;
	tree->nodes[tree->node_count++] = *node;
	return true;
}

bool node_add_text(struct node_tree *tree, const char *bytes, size_t size, uint32_t *ret_first)
{
	if (size >= UINT32_MAX - tree->text_size ||
		!node_reserve((void **)&tree->text, tree->text_size, &tree->text_room, size + 1, 1))
		return false;
	*ret_first = (uint32_t)tree->text_size;
	if (size > 0)
		memcpy(tree->text + tree->text_size, bytes, size);
	tree->text[tree->text_size + size] = '\0';
	tree->text_size += size + 1;
	return true;
}

bool node_add_children(
	struct node_tree *tree, const uint32_t *indices, size_t count, uint32_t *ret_first)
{
	if (count > UINT32_MAX - tree->child_count ||
		!node_reserve((void **)&tree->children, tree->child_count, &tree->child_room, count,
			sizeof(*tree->children)))
		return false;
	*ret_first = (uint32_t)tree->child_count;
	if (count > 0)
		memcpy(tree->children + tree->child_count, indices, count * sizeof(*indices));
	tree->child_count += count;
	return true;
}

const struct node *node_root(const struct node_tree *tree)
{
	return tree->has_root ? &tree->nodes[tree->root] : NULL;
}

const struct node *node_child(const struct node_tree *tree, const struct node *node, size_t i)
{
	return &tree->nodes[tree->children[node->first + i]];
}

const char *node_text(const struct node_tree *tree, const struct node *node)
{
	return node->kind == NODE_PLAIN || node->kind == NODE_QUOTED ? tree->text + node->first
								     : "";
}

const struct node *node_value(
	const struct node_tree *tree, const struct node *mapping, const char *key)
{
	for (size_t i = 0; i + 1 < mapping->count; i += 2)
		if (strcmp(node_text(tree, node_child(tree, mapping, i)), key) == 0)
			return node_child(tree, mapping, i + 1);
	return NULL;
}
