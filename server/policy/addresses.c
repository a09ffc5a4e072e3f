/* From an address to the atoms that have it.
 *
 * The borders of all ranges cut the address space into intervals; in each the atoms are the same. A
 * sweep over the borders keeps the list of the atoms that are open; each different list is kept
 * once, as a class. */
#include <stdlib.h>
#include <string.h>

#include "server/policy/compiled.h"

typedef unsigned __int128 wide;

#define INTERVALS_MAX (16U * 1024 * 1024)
#define MEMBERS_MAX (64U * 1024 * 1024) /* of all classes together */

struct border {
	wide at; /* the first address for which it holds */
	uint32_t atom;
	bool opens;
};

struct sweep {
	struct border *borders;
	size_t border_count;
	uint32_t *open; /* atoms, sorted */
	uint32_t open_count;
	struct class_node *nodes;
	size_t node_capacity;
	struct table classes;
	struct arena *arena;
	struct address_index *index;
	size_t class_capacity, members;
	struct error *err;
};

struct class_node {
	struct table_node node;
	struct atoms atoms;
	uint32_t number;
};

static enum status memory(struct error *err)
{
	return error_set(err, STATUS_RESOURCE_EXHAUSTED,
		"the server is out of memory for this policy document");
}

static enum status too_large(struct error *err)
{
	return error_set(err, STATUS_RESOURCE_EXHAUSTED,
		"the document's sets are too large together: more than %u ranges, or too many "
		"rules that overlap",
		INTERVALS_MAX);
}

static bool same_atoms(const struct table_node *node, const void *key, size_t size)
{
	const struct class_node *class = TABLE_OWNER(node, struct class_node, node);
	return class->atoms.count * sizeof(uint32_t) == size &&
		memcmp(class->atoms.items, key, size) == 0;
}

static int by_place(const void *a, const void *b)
{
	const struct border *x = a, *y = b;
	return (x->at > y->at) - (x->at < y->at);
}

/* ---- the class of what is open ---- */

static enum status add_class(struct sweep *sweep, uint32_t *ret_class)
{
	struct address_index *index = sweep->index;
	size_t size = sweep->open_count * sizeof *sweep->open;
	struct class_node *class = arena_take(sweep->arena, sizeof *class);
	uint32_t *items = arena_take(sweep->arena, size);
	sweep->members += sweep->open_count;
	if (sweep->members > MEMBERS_MAX)
		return too_large(sweep->err);
	if (!class || !items)
		return memory(sweep->err);
	if (index->class_count == sweep->class_capacity) {
		size_t more = sweep->class_capacity ? sweep->class_capacity * 2 : 64;
		void *grown = realloc(index->classes, more * sizeof *index->classes);
		if (!grown)
			return memory(sweep->err);
		index->classes = grown;
		sweep->class_capacity = more;
	}
	if (size)
		memcpy(items, sweep->open, size);
	class->atoms = (struct atoms){items, sweep->open_count};
	class->number = (uint32_t)index->class_count;
	if (!table_insert(&sweep->classes, &class->node, items, size))
		return memory(sweep->err);
	index->classes[index->class_count++] = class->atoms;
	*ret_class = class->number;
	return STATUS_OK;
}

static enum status class_of_open(struct sweep *sweep, uint32_t *ret_class)
{
	struct table_node *node =
		table_find(&sweep->classes, sweep->open, sweep->open_count * sizeof *sweep->open);
	if (!node)
		return add_class(sweep, ret_class);
	*ret_class = TABLE_OWNER(node, struct class_node, node)->number;
	return STATUS_OK;
}

static void cross(struct sweep *sweep, const struct border *border)
{
	uint32_t low = 0, high = sweep->open_count;
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		if (sweep->open[middle] < border->atom)
			low = middle + 1;
		else
			high = middle;
	}
	uint32_t *place = &sweep->open[low];
	size_t behind = (sweep->open_count - low) * sizeof *place;
	if (border->opens) {
		memmove(place + 1, place, behind);
		*place = border->atom;
		sweep->open_count++;
	} else {
		memmove(place, place + 1, behind - sizeof *place);
		sweep->open_count--;
	}
}

/* ---- one family ---- */

struct intervals {
	uint32_t *starts4;
	wide *starts6;
	uint32_t *classes;
	size_t count;
};

static void add_interval(struct intervals *intervals, wide at, uint32_t class)
{
	size_t count = intervals->count;
	if (count > 0 && intervals->classes[count - 1] == class)
		return;
	if (intervals->starts4)
		intervals->starts4[count] = (uint32_t)at;
	else
		intervals->starts6[count] = at;
	intervals->classes[count] = class;
	intervals->count++;
}

static enum status sweep_borders(struct sweep *sweep, struct intervals *intervals)
{
	uint32_t class = 0;
	wide at = 0;
	size_t i = 0;
	qsort(sweep->borders, sweep->border_count, sizeof *sweep->borders, by_place);
	for (;;) {
		while (i < sweep->border_count && sweep->borders[i].at == at)
			cross(sweep, &sweep->borders[i++]);
		enum status status = class_of_open(sweep, &class);
		if (status)
			return status;
		add_interval(intervals, at, class);
		if (i == sweep->border_count)
			return STATUS_OK;
		at = sweep->borders[i].at;
	}
}

static void put_borders(struct sweep *sweep, uint32_t atom, wide first, wide last, wide highest)
{
	sweep->borders[sweep->border_count++] = (struct border){first, atom, true};
	if (last != highest)
		sweep->borders[sweep->border_count++] = (struct border){last + 1, atom, false};
}

static enum status reserve(struct sweep *sweep, size_t ranges, size_t atoms)
{
	if (ranges > INTERVALS_MAX)
		return too_large(sweep->err);
	sweep->borders = malloc((ranges * 2 + 1) * sizeof *sweep->borders);
	sweep->open = malloc((atoms + 1) * sizeof *sweep->open);
	sweep->border_count = sweep->open_count = 0;
	return sweep->borders && sweep->open ? STATUS_OK : memory(sweep->err);
}

static void release(struct sweep *sweep)
{
	free(sweep->borders);
	free(sweep->open);
	sweep->borders = NULL;
	sweep->open = NULL;
}

static enum status build4(struct sweep *sweep, const struct address_atom *atoms, size_t count)
{
	struct address_index *index = sweep->index;
	size_t ranges = 0;
	for (size_t i = 0; i < count; i++)
		ranges += atoms[i].ranges->v4_count;
	enum status status = reserve(sweep, ranges, count);
	struct intervals intervals = {
		.starts4 = status ? NULL : malloc((ranges * 2 + 1) * sizeof(uint32_t)),
		.classes = status ? NULL : malloc((ranges * 2 + 1) * sizeof(uint32_t))};
	if (!status && (!intervals.starts4 || !intervals.classes))
		status = memory(sweep->err);
	index->v4 = intervals.starts4;
	index->v4_class = intervals.classes;
	if (status)
		return status;
	for (uint32_t i = 0; i < count; i++)
		for (size_t j = 0; j < atoms[i].ranges->v4_count; j++)
			put_borders(sweep, i, atoms[i].ranges->v4[j].first,
				atoms[i].ranges->v4[j].last, UINT32_MAX);
	status = sweep_borders(sweep, &intervals);
	index->v4_count = intervals.count;
	return status;
}

static enum status build6(struct sweep *sweep, const struct address_atom *atoms, size_t count)
{
	struct address_index *index = sweep->index;
	size_t ranges = 0;
	for (size_t i = 0; i < count; i++)
		ranges += atoms[i].ranges->v6_count;
	enum status status = reserve(sweep, ranges, count);
	struct intervals intervals = {
		.starts6 = status ? NULL : malloc((ranges * 2 + 1) * sizeof(wide)),
		.classes = status ? NULL : malloc((ranges * 2 + 1) * sizeof(uint32_t))};
	if (!status && (!intervals.starts6 || !intervals.classes))
		status = memory(sweep->err);
	index->v6 = intervals.starts6;
	index->v6_class = intervals.classes;
	if (status)
		return status;
	for (uint32_t i = 0; i < count; i++)
		for (size_t j = 0; j < atoms[i].ranges->v6_count; j++)
			put_borders(sweep, i, atoms[i].ranges->v6[j].first,
				atoms[i].ranges->v6[j].last, ~(wide)0);
	status = sweep_borders(sweep, &intervals);
	index->v6_count = intervals.count;
	return status;
}

/* For each value of the upper 16 bits the interval of its first address: a search then has only
 * the intervals of one /16 before it. */
static enum status build_top(struct address_index *index, struct error *err)
{
	index->v4_top = malloc(65537 * sizeof *index->v4_top);
	if (!index->v4_top)
		return memory(err);
	uint32_t interval = 0;
	for (uint32_t top = 0; top < 65536; top++) {
		while (interval + 1 < index->v4_count && index->v4[interval + 1] <= top << 16)
			interval++;
		index->v4_top[top] = interval;
	}
	index->v4_top[65536] = (uint32_t)index->v4_count - 1;
	return STATUS_OK;
}

enum status addresses_build(struct address_index *index, struct arena *arena,
	const struct address_atom *atoms, size_t count, struct error *err)
{
	struct sweep sweep = {.arena = arena, .index = index, .err = err};
	table_init(&sweep.classes, same_atoms);
	enum status status = build4(&sweep, atoms, count);
	release(&sweep);
	if (!status)
		status = build6(&sweep, atoms, count);
	release(&sweep);
	if (!status)
		status = build_top(index, err);
	table_fini(&sweep.classes);
	return status;
}

void addresses_fini(struct address_index *index)
{
	free(index->v4);
	free(index->v6);
	free(index->v4_class);
	free(index->v6_class);
	free(index->v4_top);
	free(index->classes);
	*index = (struct address_index){0};
}

/* ---- asking ---- */

static struct atoms find4(const struct address_index *index, uint32_t address)
{
	uint32_t low = index->v4_top[address >> 16], high = index->v4_top[(address >> 16) + 1];
	while (low < high) {
		uint32_t middle = low + (high - low + 1) / 2;
		if (index->v4[middle] <= address)
			low = middle;
		else
			high = middle - 1;
	}
	return index->classes[index->v4_class[low]];
}

static struct atoms find6(const struct address_index *index, wide address)
{
	size_t low = 0, high = index->v6_count - 1;
	while (low < high) {
		size_t middle = low + (high - low + 1) / 2;
		if (index->v6[middle] <= address)
			low = middle;
		else
			high = middle - 1;
	}
	return index->classes[index->v6_class[low]];
}

struct atoms addresses_find(const struct address_index *index, const struct addr *addr)
{
	const uint8_t *b = addr->bytes;
	if (addr->family == ADDR_IPV4)
		return find4(index,
			(uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3]);
	if (addr->family != ADDR_IPV6)
		return (struct atoms){NULL, 0};
	wide number = 0;
	for (size_t i = 0; i < 16; i++)
		number = number << 8 | b[i];
	return find6(index, number);
}
