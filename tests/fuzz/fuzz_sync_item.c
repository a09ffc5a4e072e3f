/* link: postern_agent_lib */
/* An item of the server's stream: each door of it is one that the kernel's tables can hold, or a
 * failure with a reason, or has no id; and the books keep it as it is. */
#include "agent/item.h"
#include "agent/reconcile.h"
#include "tests/fuzz/message.h"

static bool is_range(const struct door *door)
{
	return door->to_port_last != 0;
}

static void check_from(const struct door *door, const struct item *item)
{
	check(!id_is_zero(&door->grant)); /* its flows would bear no label */
	check_addr(&door->from);
	check(door->from.family == ADDR_NONE || door->from.family == door->to.addr.family);
	if (door->from_count == 0)
		return;
	check(door->from_count >= 2 && door->from_count <= DOOR_FROMS_MAX);
	check(door->from.family == ADDR_NONE && !is_range(door));
	check(door->froms >= item->froms &&
		door->froms + door->from_count <= item->froms + item->from_count);
	check_sorted(door->froms, door->from_count, door->to.addr.family);
}

static void check_outside(const struct door *door)
{
	check_addr(&door->outside.addr);
	switch ((enum door_nat)door->nat) {
	case DOOR_AS_IS:
		check(door->outside.addr.family == ADDR_NONE && door->outside.port == 0);
		return;
	case DOOR_SNAT:
		check(door->from.family != ADDR_NONE);
		check(door->outside.addr.family == door->to.addr.family);
		return;
	case DOOR_DNAT:
		check(door->outside.addr.family == door->to.addr.family && !is_range(door));
		check(door->outside.port > 0);
		return;
	}
	abort();
}

static void check_door(const struct door *door, const struct item *item)
{
	check_addr(&door->to.addr);
	check(door->to.addr.family != ADDR_NONE && door->to.port > 0);
	check(door->transport == 6 || door->transport == 17);
	check(!door->oneway || door->transport == 17);
	check(!is_range(door) ||
		(door->to_port_last > door->to.port &&
			door->to_port_last - door->to.port < DOOR_PORTS_MAX &&
			door->from.family != ADDR_NONE));
	check_from(door, item);
	check_outside(door);
}

/* What the books were told is what they ask the kernel for. */
static void check_books(struct doors *doors, const struct door *door)
{
	struct door wanted;
	const struct wish *wish = doors_put(doors, door, 1000000);
	check(wish != NULL && doors_find(doors, &door->grant) == wish);
	doors_key(wish, &wanted);
	check(door_same(&wanted, door));
	if (doors_wanted(wish, 1000000, &wanted))
		check(wanted.timeout_ms <= door->timeout_ms);
}

static void check_primary(const struct sync_primary *primary)
{
	const struct tracked *wanted = &primary->wanted;
	if (!primary->is_sound)
		return;
	check_addr(&wanted->client.addr);
	check_addr(&wanted->remote.addr);
	check(wanted->client.addr.family != ADDR_NONE);
	check(wanted->client.addr.family == wanted->remote.addr.family);
	check(wanted->client.port > 0 && wanted->remote.port > 0);
	check(wanted->transport == 6 || wanted->transport == 17);
	check(!tracked_is_translated(wanted));
}

static void check_item(const struct item *item, const Postern__V1__SyncItem *message)
{
	const struct sync_item *sync = &item->sync;
	struct doors doors;
	check(sync->door_count + sync->failure_count + sync->primary_count + item->nameless ==
		message->n_doors + message->n_primaries);
	check(sync->primary_count <= message->n_primaries);
	check(sync->removed_count <= message->n_removed && sync->cut_count <= message->n_cut);
	check(sync->primaries_removed_count <= message->n_primaries_removed);
	doors_init(&doors);
	for (size_t i = 0; i < sync->door_count; i++) {
		check_door(&sync->doors[i], item);
		check_books(&doors, &sync->doors[i]);
	}
	doors_fini(&doors);
	for (size_t i = 0; i < sync->failure_count; i++) {
		const char *cause = sync->failures[i].cause;
		check(cause[0] && memchr(cause, '\0', sizeof sync->failures[i].cause));
	}
	for (size_t i = 0; i < sync->primary_count; i++)
		check_primary(&sync->primaries[i]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	ProtobufCMessage *message = message_unpack(&postern__v1__sync_item__descriptor, data, size);
	struct item item;
	if (!message)
		return 0;
	check(item_read(&item, (const Postern__V1__SyncItem *)message));
	check_item(&item, (const Postern__V1__SyncItem *)message);
	item_fini(&item);
	message_free(message);
	return 0;
}
