/* What rules list, as atoms. Sets become the ranges of everything in them; addresses that several
 * rules spell out alike are one atom. */
#include <stdlib.h>
#include <string.h>

#include "server/policy/compiled.h"

#define RANGES_MAX (16U * 1024 * 1024) /* of all sets, with what is in them */

enum extent { TOUCHES_V4, TOUCHES_V6, COVERS_V4, COVERS_V6, EXTENTS };

struct flattening { /* sets of one kind */
	const struct document *document;
	const struct document_set *sets;
	size_t count;
	struct ranges *flat; /* by set */
	uint8_t *marks;
	uint32_t *stack, *next;
	struct policy_names *sources;
	const struct policy_source *source_items;
	size_t total;
	struct error *err;
};

struct literal { /* addresses that rules spell out */
	struct table_node node;
	const struct ranges *ranges;
	uint8_t *key;
	size_t size;
	uint32_t atom;
};

struct addressing { /* the atoms of one dimension */
	struct flattening flattening;
	uint32_t *atom_of_set; /* + 1; 0 = none */
	struct address_atom *atoms;
	size_t count, capacity;
	struct table literals;
	struct arena *arena;
	struct error *err;
};

static enum status memory(struct error *err)
{
	return error_set(err, STATUS_RESOURCE_EXHAUSTED,
		"the server is out of memory for this policy document");
}

/* ---- sets, flattened ---- */

static bool add_source(struct flattening *f, struct ranges *to, const char *name)
{
	const struct policy_name *source = policy_names_find(f->sources, name);
	return !source || ranges_add_all(to, f->source_items[source->index].addresses);
}

/* DNS names are told from feeds by a letter before them. */
static const char *source_key(bool is_name, const char *name, char key[static 300])
{
	size_t length = strlen(name);
	key[0] = is_name ? 'n' : 'f';
	if (length > 298)
		length = 298;
	memcpy(key + 1, name, length);
	key[length + 1] = '\0';
	return key;
}

static enum status flatten_one(struct flattening *f, uint32_t index)
{
	const struct document_set *set = &f->sets[index];
	struct ranges *flat = &f->flat[index];
	char key[300];
	bool done = ranges_add_all(flat, &set->addresses);
	for (size_t i = 0; i < set->sets.count && done; i++)
		done = ranges_add_all(flat, &f->flat[set->sets.items[i]]);
	for (size_t i = 0; i < set->names.count && done; i++)
		done = add_source(f, flat, source_key(true, set->names.items[i], key));
	for (size_t i = 0; i < set->feeds.count && done; i++)
		done = add_source(f, flat,
			source_key(false, f->document->feeds[set->feeds.items[i]].name, key));
	if (!done)
		return memory(f->err);
	ranges_normalize(flat);
	f->total += flat->v4_count + flat->v6_count;
	if (f->total > RANGES_MAX)
		return error_set(f->err, STATUS_RESOURCE_EXHAUSTED,
			"the sets of the policy document have more than %u ranges together",
			RANGES_MAX);
	return STATUS_OK;
}

/* A set after those in it; they have no cycles. */
static enum status flatten(struct flattening *f, uint32_t index)
{
	size_t depth = 0;
	if (f->marks[index])
		return STATUS_OK;
	f->stack[depth] = index;
	f->next[depth++] = 0;
	while (depth > 0) {
		uint32_t top = f->stack[depth - 1];
		const struct document_refs *sets = &f->sets[top].sets;
		if (f->next[depth - 1] < sets->count) {
			uint32_t child = sets->items[f->next[depth - 1]++];
			if (!f->marks[child]) {
				f->stack[depth] = child;
				f->next[depth++] = 0;
			}
			continue;
		}
		depth--;
		if (f->marks[top])
			continue;
		f->marks[top] = 1;
		enum status status = flatten_one(f, top);
		if (status)
			return status;
	}
	return STATUS_OK;
}

/* A set may be on the stack once for each set that holds it. */
static size_t stack_size(const struct document_set *sets, size_t count)
{
	size_t size = count + 1;
	for (size_t i = 0; i < count; i++)
		size += sets[i].sets.count;
	return size;
}

/* ---- atoms of addresses ---- */

static bool same_literal(const struct table_node *node, const void *key, size_t size)
{
	const struct literal *literal = TABLE_OWNER(node, struct literal, node);
	return literal->size == size && memcmp(literal->key, key, size) == 0;
}

static enum status add_atom(struct addressing *a, const struct ranges *ranges, uint32_t *ret_atom)
{
	if (a->count == a->capacity) {
		size_t more = a->capacity ? a->capacity * 2 : 64;
		void *grown = realloc(a->atoms, more * sizeof *a->atoms);
		if (!grown)
			return memory(a->err);
		a->atoms = grown;
		a->capacity = more;
	}
	a->atoms[a->count].ranges = ranges;
	*ret_atom = (uint32_t)a->count++;
	return STATUS_OK;
}

static enum status atom_of_set(struct addressing *a, uint32_t set, uint32_t *ret_atom)
{
	enum status status = STATUS_OK;
	if (a->atom_of_set[set] == 0) {
		status = flatten(&a->flattening, set);
		if (!status)
			status = add_atom(a, &a->flattening.flat[set], ret_atom);
		if (!status)
			a->atom_of_set[set] = *ret_atom + 1;
	}
	*ret_atom = a->atom_of_set[set] - 1;
	return status;
}

static enum status atom_of_literal(
	struct addressing *a, const struct ranges *ranges, uint32_t *ret_atom)
{
	size_t size4 = ranges->v4_count * sizeof *ranges->v4;
	size_t size6 = ranges->v6_count * sizeof *ranges->v6;
	uint8_t *key = malloc(size4 + size6 + 1);
	if (!key)
		return memory(a->err);
	if (size4)
		memcpy(key, ranges->v4, size4);
	if (size6)
		memcpy(key + size4, ranges->v6, size6);
	key[size4 + size6] = (uint8_t)(ranges->v4_count % 251); /* where one family ends */
	struct table_node *node = table_find(&a->literals, key, size4 + size6 + 1);
	if (node) {
		*ret_atom = TABLE_OWNER(node, struct literal, node)->atom;
		free(key);
		return STATUS_OK;
	}
	struct literal *literal = calloc(1, sizeof *literal);
	enum status status = literal ? add_atom(a, ranges, ret_atom) : memory(a->err);
	if (!status) {
		*literal = (struct literal){
			.ranges = ranges, .key = key, .size = size4 + size6 + 1, .atom = *ret_atom};
		if (!table_insert(&a->literals, &literal->node, key, literal->size))
			status = memory(a->err);
	}
	if (status) {
		free(literal);
		free(key);
	}
	return status;
}

static void free_literal(struct table_node *node, void *arg)
{
	struct literal *literal = TABLE_OWNER(node, struct literal, node);
	(void)arg;
	free(literal->key);
	free(literal);
}

/* ---- lists of atoms ---- */

static int ascending(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
	return (x > y) - (x < y);
}

static uint32_t sort_unique(uint32_t *items, uint32_t count)
{
	uint32_t kept = 0;
	if (count == 0)
		return 0;
	qsort(items, count, sizeof *items, ascending);
	for (uint32_t i = 1; i < count; i++)
		if (items[i] != items[kept])
			items[++kept] = items[i];
	return kept + 1;
}

/* With room for two more, which anybody needs. */
static enum status atoms_of_addresses(
	struct addressing *a, const struct document_addresses *addresses, struct atoms *ret_atoms)
{
	size_t most = addresses->sets.count + 3;
	uint32_t *items = arena_array(a->arena, most, sizeof *items), count = 0;
	enum status status = items ? STATUS_OK : memory(a->err);
	for (size_t i = 0; i < addresses->sets.count && !status; i++)
		status = atom_of_set(a, addresses->sets.items[i], &items[count++]);
	if (!status && !ranges_is_empty(&addresses->addresses))
		status = atom_of_literal(a, &addresses->addresses, &items[count++]);
	if (!status)
		*ret_atoms = (struct atoms){items, sort_unique(items, count)};
	return status;
}

static bool is_given(const struct document_addresses *addresses)
{
	return addresses->sets.count > 0 || !ranges_is_empty(&addresses->addresses);
}

/* ---- anybody ---- */

/* Ranges are normalized: so many addresses do not fill a family, so many may. */
static bool may_cover(const struct addressing *a, const struct atoms *atoms, bool ipv6)
{
	unsigned __int128 whole = ipv6 ? ~(unsigned __int128)0 : UINT32_MAX, sum = 0;
	for (uint32_t i = 0; i < atoms->count; i++) {
		const struct ranges *ranges = a->atoms[atoms->items[i]].ranges;
		size_t count = ipv6 ? ranges->v6_count : ranges->v4_count;
		for (size_t j = 0; j < count; j++) {
			unsigned __int128 size = ipv6 ? ranges->v6[j].last - ranges->v6[j].first
						      : ranges->v4[j].last - ranges->v4[j].first;
			if (size >= whole - sum)
				return true;
			sum += size + 1;
		}
	}
	return false;
}

static enum status covers(
	const struct addressing *a, const struct atoms *atoms, bool ipv6, bool *ret_covers)
{
	struct ranges whole = {0};
	bool done = true;
	*ret_covers = false;
	if (!may_cover(a, atoms, ipv6))
		return STATUS_OK;
	for (uint32_t i = 0; i < atoms->count && done; i++)
		done = ranges_add_all(&whole, a->atoms[atoms->items[i]].ranges);
	ranges_normalize(&whole);
	*ret_covers = done && ranges_cover_family(&whole, ipv6 ? ADDR_IPV6 : ADDR_IPV4);
	ranges_fini(&whole);
	return done ? STATUS_OK : memory(a->err);
}

static bool touches(const struct addressing *a, const struct atoms *atoms, enum addr_family family)
{
	for (uint32_t i = 0; i < atoms->count; i++)
		if (ranges_touch_family(a->atoms[atoms->items[i]].ranges, family))
			return true;
	return false;
}

/* Appends what a list has of each family: `whole` = every address, else any. Behind all others. */
static enum status append_extent(
	const struct addressing *a, bool whole, uint32_t first, struct atoms *atoms)
{
	uint32_t *items = (uint32_t *)(uintptr_t)atoms->items, count = atoms->count;
	for (int ipv6 = 0; ipv6 < 2; ipv6++) {
		bool has = touches(a, atoms, ipv6 ? ADDR_IPV6 : ADDR_IPV4);
		if (has && whole) {
			enum status status = covers(a, atoms, ipv6, &has);
			if (status)
				return status;
		}
		if (has)
			items[count++] =
				first + (uint32_t)(whole ? COVERS_V4 : TOUCHES_V4) + (uint32_t)ipv6;
	}
	atoms->count = count;
	return STATUS_OK;
}

static enum status add_extents(struct policy *policy, const struct addressing *a)
{
	uint32_t first = (uint32_t)a->count;
	uint32_t *items = arena_array(&policy->arena, EXTENTS, sizeof *items);
	if (!items)
		return memory(a->err);
	items[0] = first + TOUCHES_V4;
	items[1] = first + COVERS_V4;
	items[2] = first + TOUCHES_V6;
	items[3] = first + COVERS_V6;
	policy->anybody_v4 = (struct atoms){items, 2};
	policy->anybody_v6 = (struct atoms){items + 2, 2};
	policy->atom_count[BY_DESTINATION] += EXTENTS;
	for (size_t i = 0; i < policy->document->rule_count; i++) {
		struct rule *rule = &policy->rules[i];
		bool deny = policy->document->rules[i].deny;
		enum status status = STATUS_OK;
		if (rule->any[BY_DESTINATION].count > 0)
			status = append_extent(a, !deny, first, &rule->any[BY_DESTINATION]);
		if (!status && rule->except[BY_DESTINATION].count > 0)
			status = append_extent(a, deny, first, &rule->except[BY_DESTINATION]);
		if (status)
			return status;
	}
	return STATUS_OK;
}

/* ---- one dimension of addresses ---- */

static enum status list_addresses(
	struct policy *policy, enum dimension dimension, struct addressing *a)
{
	enum status status = STATUS_OK;
	for (size_t i = 0; i < policy->document->rule_count && !status; i++) {
		const struct document_rule *from = &policy->document->rules[i];
		struct rule *rule = &policy->rules[i];
		const struct document_addresses *any =
			dimension == BY_CLIENT ? &from->clients : &from->destinations;
		const struct document_addresses *except =
			dimension == BY_CLIENT ? &from->clients_except : &from->destinations_except;
		if (is_given(any)) {
			rule->stated |= (uint8_t)(1 << dimension);
			status = atoms_of_addresses(a, any, &rule->any[dimension]);
		}
		if (!status && is_given(except))
			status = atoms_of_addresses(a, except, &rule->except[dimension]);
	}
	return status;
}

static enum status build_addresses(struct policy *policy, enum dimension dimension,
	struct policy_names *sources, const struct policy_input *input, struct error *err)
{
	const struct document *document = policy->document;
	bool is_client = dimension == BY_CLIENT;
	struct addressing a = {.arena = &policy->arena, .err = err};
	struct flattening *f = &a.flattening;
	f->document = document;
	f->sets = is_client ? document->client_sets : document->destination_sets;
	f->count = is_client ? document->client_set_count : document->destination_set_count;
	f->sources = sources;
	f->source_items = input->sources;
	f->err = err;
	size_t stack = stack_size(f->sets, f->count);
	f->flat = calloc(f->count + 1, sizeof *f->flat);
	f->marks = calloc(f->count + 1, 1);
	f->stack = calloc(stack, sizeof *f->stack);
	f->next = calloc(stack, sizeof *f->next);
	a.atom_of_set = calloc(f->count + 1, sizeof *a.atom_of_set);
	table_init(&a.literals, same_literal);
	enum status status = STATUS_OK;
	if (!f->flat || !f->marks || !f->stack || !f->next || !a.atom_of_set)
		status = memory(err);
	if (!status)
		status = list_addresses(policy, dimension, &a);
	policy->atom_count[dimension] = (uint32_t)a.count;
	if (!status)
		status = addresses_build(is_client ? &policy->clients : &policy->destinations,
			&policy->arena, a.atoms, a.count, err);
	if (!status && !is_client)
		status = add_extents(policy, &a);
	for (size_t i = 0; f->flat && i < f->count; i++)
		ranges_fini(&f->flat[i]);
	table_each(&a.literals, free_literal, NULL);
	table_fini(&a.literals);
	free(f->flat);
	free(f->marks);
	free(f->stack);
	free(f->next);
	free(a.atom_of_set);
	free(a.atoms);
	return status;
}

/* ---- names ---- */

/* Each text of the list is an atom: its number in the book. `first`: where the book's begin. */
static enum status atoms_of_texts(struct policy *policy, const struct document_texts *texts,
	struct policy_names *names, uint32_t first, uint32_t *items, uint32_t *count,
	struct error *err)
{
	(void)policy;
	for (size_t i = 0; i < texts->count; i++) {
		const struct policy_name *name = policy_names_add(names, texts->items[i]);
		if (!name)
			return memory(err);
		items[(*count)++] = first + name->index;
	}
	return STATUS_OK;
}

static enum status list_protocols(struct policy *policy, const struct document_texts *texts,
	struct atoms *ret_atoms, struct error *err)
{
	uint32_t count = 0;
	uint32_t *items = arena_array(&policy->arena, texts->count, sizeof *items);
	if (!items)
		return memory(err);
	enum status status =
		atoms_of_texts(policy, texts, &policy->protocols, 0, items, &count, err);
	*ret_atoms = (struct atoms){items, sort_unique(items, count)};
	return status;
}

/* A name's own atom. */
static enum status own_atoms(struct policy *policy, struct policy_names *names, struct error *err)
{
	uint32_t *items = arena_array(&policy->arena, names->count, sizeof *items);
	if (!items)
		return memory(err);
	for (uint32_t i = 0; i < names->count; i++) {
		items[i] = i;
		names->items[i].atoms = (struct atoms){&items[i], 1};
	}
	return STATUS_OK;
}

static enum status build_protocols(struct policy *policy, struct error *err)
{
	const struct document *document = policy->document;
	size_t most = 0;
	for (size_t i = 0; i < document->rule_count; i++)
		most += document->rules[i].protocols.count +
			document->rules[i].protocols_except.count;
	if (!policy_names_init(&policy->protocols, &policy->arena, most))
		return memory(err);
	for (size_t i = 0; i < document->rule_count; i++) {
		const struct document_rule *from = &document->rules[i];
		struct rule *rule = &policy->rules[i];
		enum status status = STATUS_OK;
		if (from->protocols.count > 0) {
			rule->stated |= 1 << BY_PROTOCOL;
			status = list_protocols(
				policy, &from->protocols, &rule->any[BY_PROTOCOL], err);
		}
		if (!status && from->protocols_except.count > 0)
			status = list_protocols(
				policy, &from->protocols_except, &rule->except[BY_PROTOCOL], err);
		if (status)
			return status;
	}
	policy->atom_count[BY_PROTOCOL] = (uint32_t)policy->protocols.count;
	return own_atoms(policy, &policy->protocols, err);
}

/* ---- gateways: their names, then labels ---- */

static enum status list_gateways(struct policy *policy, size_t index, struct error *err)
{
	const struct document_rule *from = &policy->document->rules[index];
	struct rule *rule = &policy->rules[index];
	size_t most = from->gateways.count + from->gateway_labels.count;
	uint32_t count = 0, first = (uint32_t)policy->gateways.count;
	if (most == 0)
		return STATUS_OK;
	uint32_t *items = arena_array(&policy->arena, most, sizeof *items);
	if (!items)
		return memory(err);
	for (size_t i = 0; i < from->gateways.count; i++) {
		const struct policy_name *name =
			policy_names_find(&policy->gateways, from->gateways.items[i]);
		if (name)
			items[count++] = name->index;
	}
	enum status status = atoms_of_texts(
		policy, &from->gateway_labels, &policy->labels, first, items, &count, err);
	rule->stated |= 1 << BY_GATEWAY;
	rule->any[BY_GATEWAY] = (struct atoms){items, sort_unique(items, count)};
	return status;
}

/* A gateway's atoms: its own, and those of its labels that any rule names. */
static enum status label_gateway(
	struct policy *policy, const struct policy_gateway *gateway, struct error *err)
{
	struct policy_name *name = policy_names_add(&policy->gateways, gateway->name);
	uint32_t first = (uint32_t)policy->gateways.count, count = 1;
	size_t most = 2;
	for (const char *at = gateway->labels; *at; at++)
		most += *at == ',';
	uint32_t *items = arena_array(&policy->arena, most, sizeof *items);
	char *labels = strdup(gateway->labels), *rest = labels;
	if (!name || !items || !labels) {
		free(labels);
		return memory(err);
	}
	items[0] = name->index;
	for (char *label; (label = strsep(&rest, ","));) {
		const struct policy_name *known = policy_names_find(&policy->labels, label);
		if (known)
			items[count++] = first + known->index;
	}
	free(labels);
	name->atoms = (struct atoms){items, sort_unique(items, count)};
	return STATUS_OK;
}

static enum status build_gateways(
	struct policy *policy, const struct policy_input *input, struct error *err)
{
	const struct document *document = policy->document;
	size_t labels = 0;
	enum status status = STATUS_OK;
	for (size_t i = 0; i < document->rule_count; i++)
		labels += document->rules[i].gateway_labels.count;
	if (!policy_names_init(&policy->gateways, &policy->arena, input->gateway_count) ||
		!policy_names_init(&policy->labels, &policy->arena, labels))
		return memory(err);
	for (size_t i = 0; i < input->gateway_count; i++) {
		/* The caller's names do not outlive this call. */
		size_t size = strlen(input->gateways[i].name) + 1;
		char *name = arena_take(&policy->arena, size);
		if (!name)
			return memory(err);
		memcpy(name, input->gateways[i].name, size);
		if (!policy_names_add(&policy->gateways, name))
			return memory(err);
	}
	for (size_t i = 0; i < document->rule_count && !status; i++)
		status = list_gateways(policy, i, err);
	for (size_t i = 0; i < input->gateway_count && !status; i++)
		status = label_gateway(policy, &input->gateways[i], err);
	policy->atom_count[BY_GATEWAY] = (uint32_t)(policy->gateways.count + policy->labels.count);
	return status;
}

/* ---- users: the sets that have them, directly or by others ---- */

struct membership {
	uint32_t user, set;
};

static int by_user(const void *a, const void *b)
{
	const struct membership *x = a, *y = b;
	if (x->user != y->user)
		return x->user < y->user ? -1 : 1;
	return (x->set > y->set) - (x->set < y->set);
}

struct memberships {
	struct membership *items;
	size_t count, capacity;
	uint8_t *seen;
	uint32_t *stack;
};

static bool add_membership(struct memberships *all, uint32_t user, uint32_t set)
{
	if (all->count == all->capacity) {
		size_t more = all->capacity ? all->capacity * 2 : 64;
		void *grown = realloc(all->items, more * sizeof *all->items);
		if (!grown)
			return false;
		all->items = grown;
		all->capacity = more;
	}
	all->items[all->count++] = (struct membership){user, set};
	return true;
}

/* Everybody in this set, and in the sets in it. */
static enum status list_members(
	struct policy *policy, uint32_t set, struct memberships *all, struct error *err)
{
	const struct document *document = policy->document;
	size_t depth = 0;
	memset(all->seen, 0, document->user_set_count);
	all->stack[depth++] = set;
	all->seen[set] = 1;
	while (depth > 0) {
		const struct document_user_set *from = &document->user_sets[all->stack[--depth]];
		for (size_t i = 0; i < from->users.count; i++) {
			const struct policy_name *user =
				policy_names_add(&policy->users, from->users.items[i]);
			if (!user || !add_membership(all, user->index, set))
				return memory(err);
		}
		for (size_t i = 0; i < from->sets.count; i++) {
			uint32_t child = from->sets.items[i];
			if (!all->seen[child])
				all->stack[depth++] = child;
			all->seen[child] = 1;
		}
		if (all->count > RANGES_MAX)
			return error_set(err, STATUS_RESOURCE_EXHAUSTED,
				"the user sets of the policy document have more than %u members "
				"together",
				RANGES_MAX);
	}
	return STATUS_OK;
}

static enum status give_users_atoms(
	struct policy *policy, struct memberships *all, struct error *err)
{
	uint32_t *items = arena_array(&policy->arena, all->count, sizeof *items);
	if (!items)
		return memory(err);
	if (all->count > 0)
		qsort(all->items, all->count, sizeof *all->items, by_user);
	for (size_t i = 0; i < all->count;) {
		size_t begin = i;
		uint32_t count = 0;
		for (; i < all->count && all->items[i].user == all->items[begin].user; i++)
			items[begin + count++] = all->items[i].set;
		policy->users.items[all->items[begin].user].atoms =
			(struct atoms){&items[begin], sort_unique(&items[begin], count)};
	}
	return STATUS_OK;
}

static enum status build_users(struct policy *policy, struct error *err)
{
	const struct document *document = policy->document;
	size_t most = 0, sets = document->user_set_count;
	struct memberships all = {
		.seen = calloc(sets + 1, 1), .stack = calloc(sets + 1, sizeof *all.stack)};
	uint8_t *used = calloc(sets + 1, 1);
	enum status status = STATUS_OK;
	for (size_t i = 0; i < sets; i++)
		most += document->user_sets[i].users.count;
	if (!all.seen || !all.stack || !used ||
		!policy_names_init(&policy->users, &policy->arena, most))
		status = memory(err);
	for (size_t i = 0; i < document->rule_count && !status; i++) {
		const struct document_refs *users = &document->rules[i].users;
		if (users->count == 0)
			continue;
		uint32_t *items = arena_array(&policy->arena, users->count, sizeof *items);
		if (!items) {
			status = memory(err);
			break;
		}
		memcpy(items, users->items, users->count * sizeof *items);
		for (size_t j = 0; j < users->count; j++)
			used[items[j]] = 1;
		policy->rules[i].stated |= 1 << BY_USER;
		policy->rules[i].any[BY_USER] =
			(struct atoms){items, sort_unique(items, (uint32_t)users->count)};
	}
	for (uint32_t i = 0; i < sets && !status; i++)
		if (used[i])
			status = list_members(policy, i, &all, err);
	if (!status)
		status = give_users_atoms(policy, &all, err);
	policy->atom_count[BY_USER] = (uint32_t)sets;
	free(all.items);
	free(all.seen);
	free(all.stack);
	free(used);
	return status;
}

/* ---- all ---- */

static enum status name_sources(struct policy *policy, const struct policy_input *input,
	struct policy_names *sources, struct error *err)
{
	char key[300];
	if (!policy_names_init(sources, &policy->arena, input->source_count))
		return memory(err);
	for (size_t i = 0; i < input->source_count; i++) {
		(void)source_key(input->sources[i].is_name, input->sources[i].name, key);
		size_t size = strlen(key) + 1;
		char *copy = arena_take(&policy->arena, size);
		if (!copy)
			return memory(err);
		memcpy(copy, key, size);
		if (!policy_names_add(sources, copy))
			return memory(err);
	}
	return STATUS_OK;
}

enum status atoms_build(struct policy *policy, const struct policy_input *input, struct error *err)
{
	struct policy_names sources;
	memset(&sources, 0, sizeof sources);
	policy->rules =
		arena_array(&policy->arena, policy->document->rule_count, sizeof *policy->rules);
	enum status status =
		policy->rules ? name_sources(policy, input, &sources, err) : memory(err);
	if (!status)
		status = build_addresses(policy, BY_CLIENT, &sources, input, err);
	if (!status)
		status = build_addresses(policy, BY_DESTINATION, &sources, input, err);
	if (!status)
		status = build_protocols(policy, err);
	if (!status)
		status = build_gateways(policy, input, err);
	if (!status)
		status = build_users(policy, err);
	policy_names_fini(&sources);
	return status;
}
