#include <stdlib.h>

#include "server/service/service.h"

struct item {
	struct item *next;
	size_t size;
	uint8_t bytes[];
};

struct outbox {
	struct rpc_call *call;
	struct item *first, **end;
	bool failed, sending;
	enum status over; /* the caller went away before it was sent; STATUS_OK = it did not */
};

static void outbox_free(struct outbox *outbox)
{
	for (struct item *item = outbox->first, *next; item; item = next) {
		next = item->next;
		free(item);
	}
	free(outbox);
}

/* While it is filled, whoever fills it ends the call. */
static void ended(void *arg, enum status why)
{
	struct outbox *outbox = arg;
	struct error err;
	if (!outbox->sending) {
		outbox->over = why;
		return;
	}
	error_set(&err, why, "the caller went away");
	outbox_fail(outbox, &err);
}

struct outbox *outbox_new(struct rpc_call *call)
{
	struct outbox *outbox = calloc(1, sizeof *outbox);
	if (!outbox) {
		struct error err;
		error_set(&err, STATUS_RESOURCE_EXHAUSTED, "the server is out of memory");
		rpc_fail(call, &err);
		return NULL;
	}
	outbox->call = call;
	outbox->end = &outbox->first;
	rpc_on_end(call, ended, outbox);
	return outbox;
}

void outbox_add(struct outbox *outbox, const ProtobufCMessage *message)
{
	size_t size = protobuf_c_message_get_packed_size(message);
	struct item *item = malloc(sizeof *item + size);
	if (!item) {
		outbox->failed = true;
		return;
	}
	item->next = NULL;
	item->size = size;
	protobuf_c_message_pack(message, item->bytes);
	*outbox->end = item;
	outbox->end = &item->next;
}

static void pump(void *arg)
{
	struct outbox *outbox = arg;
	while (outbox->first) {
		struct item *item = outbox->first;
		if (rpc_item_packed(outbox->call, item->bytes, item->size))
			return; /* more credit, or the call's end, comes */
		outbox->first = item->next;
		free(item);
	}
	rpc_end(outbox->call);
	outbox_free(outbox);
}

void outbox_fail(struct outbox *outbox, const struct error *err)
{
	rpc_fail(outbox->call, err);
	outbox_free(outbox);
}

void outbox_send(struct outbox *outbox)
{
	outbox->sending = true;
	if (outbox->failed || outbox->over) {
		ended(outbox, outbox->over ? outbox->over : STATUS_RESOURCE_EXHAUSTED);
		return;
	}
	rpc_on_credit(outbox->call, pump, outbox);
	pump(outbox);
}
