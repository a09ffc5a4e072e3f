#include "server/journal/entry.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "postern/v1/types.pb-c.h"
#include "server/journal/wire.h"

static_assert(ENTRY_HASH_SIZE == crypto_generichash_BYTES, "the chain is of BLAKE2b-256");

/* ---- to the wire ---- */

static char *id_text(const struct id *id, char text[static ID_TEXT_SIZE])
{
	text[0] = '\0';
	if (!id_is_zero(id))
		id_format(id, text);
	return text;
}

static char *addr_text(const struct addr *addr, char text[static ADDR_TEXT_SIZE])
{
	addr_format(addr, text);
	return text;
}

size_t remotes_to_wire(const struct addr *remotes, size_t count, struct remotes_wire *ret_wire)
{
	if (count > ENTRY_REMOTES_MAX)
		count = ENTRY_REMOTES_MAX;
	for (size_t i = 0; i < count; i++)
		ret_wire->pointers[i] = addr_text(&remotes[i], ret_wire->texts[i]);
	return count;
}

void flow_to_wire(const struct flow *flow, struct flow_wire *ret_wire)
{
	postern__v1__flow__init(&ret_wire->message);
	ret_wire->message.id = flow->id;
	ret_wire->message.client = addr_text(&flow->client.addr, ret_wire->client);
	ret_wire->message.client_port = flow->client.port;
	ret_wire->message.remote = addr_text(&flow->remote.addr, ret_wire->remote);
	ret_wire->message.remote_port = flow->remote.port;
	ret_wire->message.transport = (Postern__V1__Transport)flow->transport;
	ret_wire->message.accounted = flow->accounted;
	ret_wire->message.packets_sent = flow->packets_sent;
	ret_wire->message.bytes_sent = flow->bytes_sent;
	ret_wire->message.packets_received = flow->packets_received;
	ret_wire->message.bytes_received = flow->bytes_received;
	ret_wire->message.duration_us = flow->duration_us;
	ret_wire->message.external = addr_text(&flow->external.addr, ret_wire->external);
	ret_wire->message.external_port = flow->external.port;
}

static char *text_of(const char *text)
{
	return (char *)(uintptr_t)text;
}

static bool has_hash(const uint8_t hash[static ENTRY_HASH_SIZE])
{
	static const uint8_t none[ENTRY_HASH_SIZE];
	return memcmp(hash, none, sizeof none) != 0;
}

void entry_to_wire(const struct entry *entry, struct entry_wire *ret_wire)
{
	Postern__V1__Entry *message = &ret_wire->message;
	postern__v1__entry__init(message);
	message->sequence = entry->sequence;
	message->time_us = entry->time_us;
	message->kind = (Postern__V1__EntryKind)entry->kind;
	message->actor = text_of(entry->actor);
	message->gateway = text_of(entry->gateway);
	message->filter = text_of(entry->filter);
	message->protocol = text_of(entry->protocol);
	message->rule = text_of(entry->rule);
	message->detail = text_of(entry->detail);
	message->session = id_text(&entry->session, ret_wire->session);
	message->grant = id_text(&entry->grant, ret_wire->grant);
	message->request_id = id_text(&entry->request_id, ret_wire->request_id);
	message->client = addr_text(&entry->client, ret_wire->client);
	message->remote = addr_text(&entry->remote.addr, ret_wire->remote);
	message->remote_port = entry->remote.port;
	message->external = addr_text(&entry->external.addr, ret_wire->external);
	message->external_port = entry->external.port;
	message->bundle = id_text(&entry->bundle, ret_wire->bundle);
	message->direction = entry->inbound ? POSTERN__V1__DIRECTION__DIRECTION_INBOUND
					    : POSTERN__V1__DIRECTION__DIRECTION_OUTBOUND;
	message->client_port = entry->client_port;
	message->remote_port_last = entry->remote_port_last;
	message->n_remotes =
		remotes_to_wire(entry->remotes, entry->remote_count, &ret_wire->remotes);
	message->remotes = ret_wire->remotes.pointers;
	message->transport = (Postern__V1__Transport)entry->transport;
	message->flags = entry->flags;
	message->lifetime_ms = entry->lifetime_ms;
	message->max_connections = entry->max_connections;
	message->count = entry->count;
	message->reason = (Postern__V1__EndReason)entry->reason;
	message->revision = entry->revision;
	message->user = text_of(entry->user);
	message->site_rule = text_of(entry->site_rule);
	message->staged_rule = text_of(entry->staged_rule);
	if (has_hash(entry->document_hash)) {
		message->document_hash.data = (uint8_t *)(uintptr_t)entry->document_hash;
		message->document_hash.len = ENTRY_HASH_SIZE;
	}
	message->notify = entry->notify;
	message->context.data = (uint8_t *)(uintptr_t)entry->context;
	message->context.len = entry->context_size;
	if (entry->flow.transport) {
		flow_to_wire(&entry->flow, &ret_wire->flow);
		message->flow = &ret_wire->flow.message;
	}
	if (entry->sequence) {
		message->hash.data = (uint8_t *)(uintptr_t)entry->hash;
		message->hash.len = ENTRY_HASH_SIZE;
	}
}

/* ---- body ---- */

enum status entry_encode(
	const struct entry *entry, uint8_t **ret_body, size_t *ret_size, struct error *err)
{
	struct entry_wire wire;
	if (entry->context_size > ENTRY_CONTEXT_MAX)
		return error_set(err, STATUS_INVALID_ARGUMENT, "context of %zu bytes: at most %d",
			entry->context_size, ENTRY_CONTEXT_MAX);
	if (entry->remote_count > ENTRY_REMOTES_MAX)
		return error_set(err, STATUS_INVALID_ARGUMENT, "%zu remote addresses: at most %d",
			entry->remote_count, ENTRY_REMOTES_MAX);
	entry_to_wire(entry, &wire);
	wire.message.sequence = 0;
	wire.message.hash.len = 0;
	size_t size = postern__v1__entry__get_packed_size(&wire.message);
	uint8_t *body = malloc(size ? size : 1);
	if (!body)
		return error_set(err, STATUS_RESOURCE_EXHAUSTED, "out of memory");
	postern__v1__entry__pack(&wire.message, body);
	*ret_body = body;
	*ret_size = size;
	return STATUS_OK;
}

static bool read_text(char *to, size_t size, const char *from)
{
	return (size_t)snprintf(to, size, "%s", from) < size;
}

static bool read_id(struct id *to, const char *from)
{
	return from[0] == '\0' || id_parse(from, to);
}

/* Empty, or whole. */
static bool read_hash(uint8_t to[static ENTRY_HASH_SIZE], const ProtobufCBinaryData *from)
{
	if (from->len == ENTRY_HASH_SIZE)
		memcpy(to, from->data, ENTRY_HASH_SIZE);
	return from->len == 0 || from->len == ENTRY_HASH_SIZE;
}

static bool read_endpoint(struct endpoint *to, const char *addr, uint32_t port)
{
	if (port > UINT16_MAX || (addr[0] != '\0' && !addr_parse(addr, &to->addr)))
		return false;
	to->port = (uint16_t)port;
	return true;
}

bool flow_from_wire(const Postern__V1__Flow *message, struct flow *ret_flow)
{
	struct flow flow = {.id = message->id, .accounted = message->accounted};
	if (!read_endpoint(&flow.client, message->client, message->client_port) ||
		!read_endpoint(&flow.remote, message->remote, message->remote_port) ||
		!read_endpoint(&flow.external, message->external, message->external_port) ||
		(message->transport != 6 && message->transport != 17))
		return false;
	flow.transport = (uint8_t)message->transport;
	flow.packets_sent = message->packets_sent;
	flow.bytes_sent = message->bytes_sent;
	flow.packets_received = message->packets_received;
	flow.bytes_received = message->bytes_received;
	flow.duration_us = message->duration_us;
	*ret_flow = flow;
	return true;
}

static bool from_wire(const Postern__V1__Entry *message, struct entry *entry)
{
	bool fits = read_text(entry->actor, sizeof entry->actor, message->actor) &&
		read_text(entry->gateway, sizeof entry->gateway, message->gateway) &&
		read_text(entry->filter, sizeof entry->filter, message->filter) &&
		read_text(entry->protocol, sizeof entry->protocol, message->protocol) &&
		read_text(entry->rule, sizeof entry->rule, message->rule) &&
		read_text(entry->detail, sizeof entry->detail, message->detail) &&
		read_text(entry->user, sizeof entry->user, message->user) &&
		read_text(entry->site_rule, sizeof entry->site_rule, message->site_rule) &&
		read_text(entry->staged_rule, sizeof entry->staged_rule, message->staged_rule) &&
		read_hash(entry->document_hash, &message->document_hash);
	struct endpoint client = {0};
	if (!fits || !read_id(&entry->session, message->session) ||
		!read_id(&entry->grant, message->grant) ||
		!read_id(&entry->request_id, message->request_id) ||
		!read_id(&entry->bundle, message->bundle) || message->client_port > UINT16_MAX ||
		message->remote_port_last > UINT16_MAX ||
		!read_endpoint(&client, message->client, 0) ||
		!read_endpoint(&entry->remote, message->remote, message->remote_port) ||
		!read_endpoint(&entry->external, message->external, message->external_port) ||
		message->context.len > ENTRY_CONTEXT_MAX ||
		(message->flow && !flow_from_wire(message->flow, &entry->flow)))
		return false;
	entry->client = client.addr;
	entry->inbound = message->direction == POSTERN__V1__DIRECTION__DIRECTION_INBOUND;
	entry->client_port = (uint16_t)message->client_port;
	entry->remote_port_last = (uint16_t)message->remote_port_last;
	entry->time_us = message->time_us;
	entry->kind = (enum entry_kind)message->kind;
	entry->transport = (uint8_t)message->transport;
	entry->flags = message->flags;
	entry->lifetime_ms = message->lifetime_ms;
	entry->max_connections = message->max_connections;
	entry->count = message->count;
	entry->reason = (uint32_t)message->reason;
	entry->revision = message->revision;
	entry->notify = message->notify;
	return true;
}

/* protobuf-c answers NULL for bad bytes and for want of memory alike; these tell them apart. */
static void *allocate(void *is_out_of_memory, size_t size)
{
	void *memory = malloc(size);
	if (!memory)
		*(bool *)is_out_of_memory = true;
	return memory;
}

static void release(void *is_out_of_memory, void *memory)
{
	(void)is_out_of_memory;
	free(memory);
}

/* False: one of them is no address. */
static bool copy_remotes(
	const Postern__V1__Entry *message, struct entry *entry, bool *ret_out_of_memory)
{
	if (message->n_remotes == 0)
		return true;
	if (message->n_remotes > ENTRY_REMOTES_MAX)
		return false;
	struct addr *remotes = calloc(message->n_remotes, sizeof *remotes);
	*ret_out_of_memory = !remotes;
	for (size_t i = 0; remotes && i < message->n_remotes; i++) {
		if (addr_parse(message->remotes[i], &remotes[i]))
			continue;
		free(remotes);
		return false;
	}
	entry->remotes = entry->owned_remotes = remotes;
	entry->remote_count = remotes ? message->n_remotes : 0;
	return true;
}

static bool copy_context(const Postern__V1__Entry *message, struct entry *entry)
{
	if (message->context.len == 0)
		return true;
	entry->owned = malloc(message->context.len);
	if (!entry->owned)
		return false;
	memcpy(entry->owned, message->context.data, message->context.len);
	entry->context = entry->owned;
	entry->context_size = message->context.len;
	return true;
}

enum status entry_decode(
	const uint8_t *body, size_t size, struct entry *ret_entry, struct error *err)
{
	struct entry entry = {0};
	bool is_out_of_memory = false;
	ProtobufCAllocator allocator = {allocate, release, &is_out_of_memory};
	Postern__V1__Entry *message = postern__v1__entry__unpack(&allocator, size, body);
	bool is_entry = message && from_wire(message, &entry) &&
		copy_remotes(message, &entry, &is_out_of_memory);
	if (is_entry && !is_out_of_memory && !copy_context(message, &entry))
		is_out_of_memory = true;
	if (message)
		postern__v1__entry__free_unpacked(message, &allocator);
	if (is_out_of_memory || !is_entry)
		entry_fini(&entry);
	if (is_out_of_memory)
		return error_set(err, STATUS_RESOURCE_EXHAUSTED, "out of memory");
	if (!is_entry)
		return error_set(err, STATUS_DATA_LOSS, "the body is not a journal entry");
	*ret_entry = entry;
	return STATUS_OK;
}

static void *copy_bytes(const void *from, size_t size)
{
	void *copy = size ? malloc(size) : NULL;
	if (copy)
		memcpy(copy, from, size);
	return copy;
}

bool entry_copy(struct entry *to, const struct entry *from)
{
	*to = *from;
	to->owned = copy_bytes(from->context, from->context_size);
	to->owned_remotes = copy_bytes(from->remotes, from->remote_count * sizeof *from->remotes);
	to->context = to->owned;
	to->remotes = to->owned_remotes;
	if ((to->context || from->context_size == 0) && (to->remotes || from->remote_count == 0))
		return true;
	entry_fini(to);
	return false;
}

void entry_fini(struct entry *entry)
{
	free(entry->owned);
	free(entry->owned_remotes);
	entry->owned = NULL;
	entry->owned_remotes = NULL;
	entry->remotes = NULL;
	entry->remote_count = 0;
	entry->context = NULL;
	entry->context_size = 0;
}

/* Bytes of the well-formed UTF-8 character at `text`, 0 if there is none (RFC 3629: no surrogates,
 * no overlong forms). */
static size_t utf8_length(const unsigned char *text)
{
	size_t length = text[0] < 0x80              ? 1
		: text[0] >= 0xc2 && text[0] < 0xe0 ? 2
		: text[0] >= 0xe0 && text[0] < 0xf0 ? 3
		: text[0] >= 0xf0 && text[0] < 0xf5 ? 4
						    : 0;
	for (size_t i = 1; i < length; i++)
		if ((text[i] & 0xc0) != 0x80)
			return 0;
	if ((text[0] == 0xe0 && text[1] < 0xa0) || (text[0] == 0xed && text[1] > 0x9f) ||
		(text[0] == 0xf0 && text[1] < 0x90) || (text[0] == 0xf4 && text[1] > 0x8f))
		return 0;
	return length;
}

static void clean(char *text, size_t size)
{
	text[size - 1] = '\0';
	for (unsigned char *at = (unsigned char *)text; *at;) {
		size_t length = utf8_length(at);
		if (length == 0 || *at < 0x20 || *at == 0x7f) {
			*at = '?';
			length = 1;
		}
		at += length;
	}
}

void entry_clean(struct entry *entry)
{
	clean(entry->actor, sizeof entry->actor);
	clean(entry->gateway, sizeof entry->gateway);
	clean(entry->filter, sizeof entry->filter);
	clean(entry->protocol, sizeof entry->protocol);
	clean(entry->rule, sizeof entry->rule);
	clean(entry->detail, sizeof entry->detail);
	clean(entry->user, sizeof entry->user);
	clean(entry->site_rule, sizeof entry->site_rule);
	clean(entry->staged_rule, sizeof entry->staged_rule);
}

void entry_hash(const uint8_t previous[static ENTRY_HASH_SIZE], uint64_t sequence,
	const uint8_t *body, size_t size, uint8_t ret_hash[static ENTRY_HASH_SIZE])
{
	crypto_generichash_state state;
	uint8_t number[8];
	for (int i = 0; i < 8; i++)
		number[i] = (uint8_t)(sequence >> (56 - 8 * i));
	crypto_generichash_init(&state, NULL, 0, ENTRY_HASH_SIZE);
	crypto_generichash_update(&state, previous, ENTRY_HASH_SIZE);
	crypto_generichash_update(&state, number, sizeof number);
	crypto_generichash_update(&state, body, size);
	crypto_generichash_final(&state, ret_hash, ENTRY_HASH_SIZE);
}

const char *entry_kind_name(enum entry_kind kind)
{
	switch (kind) {
	case ENTRY_SERVER_STARTED:
		return "server-started";
	case ENTRY_SERVER_STOPPED:
		return "server-stopped";
	case ENTRY_GATEWAY_ADDED:
		return "gateway-added";
	case ENTRY_GATEWAY_JOINED:
		return "gateway-joined";
	case ENTRY_GATEWAY_LOST:
		return "gateway-lost";
	case ENTRY_GATEWAY_REBOOTED:
		return "gateway-rebooted";
	case ENTRY_TABLE_REBUILT:
		return "table-rebuilt";
	case ENTRY_EVENTS_OVERRUN:
		return "events-overrun";
	case ENTRY_PRINCIPAL_ADDED:
		return "principal-added";
	case ENTRY_PROTOCOL_REGISTERED:
		return "protocol-registered";
	case ENTRY_RULE_ADDED:
		return "rule-added";
	case ENTRY_POLICY_APPLIED:
		return "policy-applied";
	case ENTRY_POLICY_CONFIRMED:
		return "policy-confirmed";
	case ENTRY_POLICY_ROLLED_BACK:
		return "policy-rolled-back";
	case ENTRY_FEED_CHANGED:
		return "feed-changed";
	case ENTRY_FEED_HELD:
		return "feed-held";
	case ENTRY_FEED_FAILED:
		return "feed-failed";
	case ENTRY_SESSION_OPENED:
		return "session-opened";
	case ENTRY_SESSION_CLOSED:
		return "session-closed";
	case ENTRY_GRANTED:
		return "granted";
	case ENTRY_DENIED:
		return "denied";
	case ENTRY_INSTALLED:
		return "installed";
	case ENTRY_ESTABLISHED:
		return "established";
	case ENTRY_CLOSED:
		return "closed";
	case ENTRY_ENDED:
		return "ended";
	case ENTRY_USES_RECOVERED:
		return "uses-recovered";
	case ENTRY_RESERVED:
		return "reserved";
	case ENTRY_COMMITTED:
		return "committed";
	case ENTRY_RENEWED:
		return "renewed";
	case ENTRY_CUT:
		return "cut";
	case ENTRY_EXTERNAL_CHANGED:
		return "external-changed";
	}
	return "unknown";
}
