/* Building transactions on the loop: every row is copied, a failure is remembered. */
#include "server/store/txn.h"

#include <stdlib.h>
#include <string.h>

void store_txn_free(struct store_txn *txn)
{
	if (!txn)
		return;
	for (struct op *op = txn->first, *next; op; op = next) {
		next = op->next;
		if (op->kind == OP_ENTRY) {
			free(op->as.entry.body);
			entry_fini(&op->as.entry.entry);
		} else if (op->kind == OP_GRANT) {
			grant_record_fini(&op->as.grant);
		} else if (op->kind == OP_REVISION) {
			free(op->as.revision.document);
		} else if (op->kind == OP_FEED) {
			free(op->as.feed.content);
			free(op->as.feed.held);
		}
		free(op);
	}
	free(txn);
}

static struct op *add(struct store_txn *txn, enum op_kind kind)
{
	struct op *op = calloc(1, sizeof *op);
	if (!op) {
		error_set(&txn->result, STATUS_RESOURCE_EXHAUSTED, "out of memory");
		return NULL;
	}
	op->kind = kind;
	txn->rows++;
	*txn->end = op;
	txn->end = &op->next;
	return op;
}

void store_txn_entry(struct store_txn *txn, const struct entry *entry)
{
	struct op *op = add(txn, OP_ENTRY);
	if (!op)
		return;
	struct entry *copy = &op->as.entry.entry;
	if (!entry_copy(copy, entry))
		error_set(&txn->result, STATUS_RESOURCE_EXHAUSTED, "out of memory");
	entry_clean(copy);
	struct error err;
	if (entry_encode(copy, &op->as.entry.body, &op->as.entry.body_size, &err))
		txn->result = err;
}

void store_txn_put_gateway(struct store_txn *txn, const struct gateway_record *gateway)
{
	struct op *op = add(txn, OP_GATEWAY);
	if (op)
		op->as.gateway = *gateway;
}

void store_txn_report_position(
	struct store_txn *txn, const char *gateway, const char *instance, uint64_t last_report)
{
	struct op *op = add(txn, OP_POSITION);
	if (!op)
		return;
	strncpy(op->as.gateway.name, gateway, sizeof op->as.gateway.name - 1);
	strncpy(op->as.gateway.instance, instance, sizeof op->as.gateway.instance - 1);
	op->as.gateway.last_report = last_report;
}

void store_txn_put_principal(struct store_txn *txn, const struct principal_record *principal)
{
	struct op *op = add(txn, OP_PRINCIPAL);
	if (op)
		op->as.principal = *principal;
}

void store_txn_put_protocol(struct store_txn *txn, const struct protocol_record *protocol)
{
	struct op *op = add(txn, OP_PROTOCOL);
	if (op)
		op->as.protocol = *protocol;
}

void store_txn_put_rule(struct store_txn *txn, const struct rule_record *rule)
{
	struct op *op = add(txn, OP_RULE);
	if (op)
		op->as.rule = *rule;
}

void store_txn_put_session(struct store_txn *txn, const struct session_record *session)
{
	struct op *op = add(txn, OP_SESSION);
	if (op)
		op->as.session = *session;
}

void store_txn_put_grant(struct store_txn *txn, const struct grant_record *grant)
{
	struct op *op = add(txn, OP_GRANT);
	if (!op)
		return;
	if (!grant_record_copy(&op->as.grant, grant))
		error_set(&txn->result, STATUS_RESOURCE_EXHAUSTED, "out of memory");
}

void store_txn_put_flow(struct store_txn *txn, const struct flow_record *flow)
{
	struct op *op = add(txn, OP_FLOW);
	if (op)
		op->as.flow = *flow;
}

/* NULL stays NULL; of no bytes comes a pointer all the same: empty is not absent. */
static uint8_t *copy_blob(struct store_txn *txn, const uint8_t *bytes, size_t size)
{
	uint8_t *copy = bytes ? malloc(size ? size : 1) : NULL;
	if (copy)
		memcpy(copy, bytes, size);
	else if (bytes)
		error_set(&txn->result, STATUS_RESOURCE_EXHAUSTED, "out of memory");
	return copy;
}

void store_txn_put_revision(struct store_txn *txn, const struct revision_record *revision)
{
	struct op *op = add(txn, OP_REVISION);
	if (!op)
		return;
	op->as.revision = *revision;
	op->as.revision.document = copy_blob(txn, revision->document, revision->document_size);
}

void store_txn_put_feed(struct store_txn *txn, const struct feed_record *feed)
{
	struct op *op = add(txn, OP_FEED);
	if (!op)
		return;
	op->as.feed = *feed;
	op->as.feed.content = copy_blob(txn, feed->content, feed->content_size);
	op->as.feed.held = copy_blob(txn, feed->held, feed->held_size);
}
