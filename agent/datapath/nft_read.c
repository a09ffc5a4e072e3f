/* Elements and objects as the kernel tells them: dumps of one map, and single ones. */
#include <libmnl/libmnl.h>
#include <libnftnl/common.h>
#include <libnftnl/expr.h>
#include <libnftnl/object.h>
#include <libnftnl/set.h>
#include <libnftnl/udata.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <stdio.h>
#include <string.h>

#include "agent/datapath/nft_internal.h"

#define REQUEST_BYTES 1024

/* ---- comments ---- */

struct comment {
	uint8_t type;
	char *text; /* NFT_COMMENT_BYTES */
};

static int on_comment(const struct nftnl_udata *attr, void *arg)
{
	const struct comment *comment = arg;
	const char *text = nftnl_udata_get(attr);
	uint8_t size = nftnl_udata_len(attr);
	if (nftnl_udata_type(attr) == comment->type && size > 0 && text[size - 1] == '\0')
		snprintf(comment->text, NFT_COMMENT_BYTES, "%s", text);
	return 0;
}

static void read_comment(const void *data, uint32_t size, uint8_t type, char *text)
{
	struct comment comment = {type, text};
	text[0] = '\0';
	if (data && size > 0)
		(void)nftnl_udata_parse(data, size, on_comment, &comment);
}

/* ---- elements ---- */

struct reading {
	const struct nft_map *map;
	nft_element_cb element;
	nft_object_cb object;
	void *arg;
	bool stopped;
};

static int read_expression(struct nftnl_expr *expr, void *arg)
{
	struct nft_element *element = arg;
	const char *name = nftnl_expr_get_str(expr, NFTNL_EXPR_NAME);
	if (name && strcmp(name, "counter") == 0)
		element->counter = nftnl_expr_get_u64(expr, NFTNL_EXPR_CTR_PACKETS);
	if (!name || strcmp(name, "limit") != 0)
		return 0;
	element->closed = nftnl_expr_get_u32(expr, NFTNL_EXPR_LIMIT_FLAGS) & NFT_LIMIT_F_INV;
	if (nftnl_expr_get_u64(expr, NFTNL_EXPR_LIMIT_RATE) == 1)
		element->uses = nftnl_expr_get_u32(expr, NFTNL_EXPR_LIMIT_BURST);
	return 0;
}

static int on_element(struct nftnl_set_elem *found, void *arg)
{
	struct reading *reading = arg;
	struct nft_element element = {0};
	uint32_t size = 0;
	const void *key = nftnl_set_elem_get(found, NFTNL_SET_ELEM_KEY, &element.key_size);
	const void *data = nftnl_set_elem_get(found, NFTNL_SET_ELEM_DATA, &element.data_size);
	if (!key || element.key_size != nft_key_size(reading->map) ||
		element.data_size > sizeof element.data)
		return 0;
	memcpy(element.key, key, element.key_size);
	if (data)
		memcpy(element.data, data, element.data_size);
	if (nftnl_set_elem_is_set(found, NFTNL_SET_ELEM_OBJREF))
		snprintf(element.object, sizeof element.object, "%s",
			nftnl_set_elem_get_str(found, NFTNL_SET_ELEM_OBJREF));
	const void *user = nftnl_set_elem_get(found, NFTNL_SET_ELEM_USERDATA, &size);
	read_comment(user, size, NFTNL_UDATA_SET_ELEM_COMMENT, element.comment);
	if (nftnl_set_elem_is_set(found, NFTNL_SET_ELEM_EXPIRATION))
		element.timeout_ms = nftnl_set_elem_get_u64(found, NFTNL_SET_ELEM_EXPIRATION);
	nftnl_set_elem_expr_foreach(found, read_expression, &element);
	reading->stopped = !reading->element(reading->map, &element, reading->arg);
	return reading->stopped ? -1 : 0;
}

static int on_elements(const struct nlmsghdr *message, void *arg)
{
	struct reading *reading = arg;
	struct nftnl_set *set = nftnl_set_alloc();
	if (!set)
		return nft_no_memory();
	if (nftnl_set_elems_nlmsg_parse(message, set) >= 0)
		(void)nftnl_set_elem_foreach(set, on_element, arg);
	nftnl_set_free(set);
	return reading->stopped ? nft_no_memory() : MNL_CB_OK;
}

static enum status out_of_memory(struct error *err)
{
	return error_set(err, STATUS_RESOURCE_EXHAUSTED, "out of memory");
}

enum status nft_read_map(struct nft *nft, const struct nft_map *map, void (*begin)(void *arg),
	nft_element_cb cb, void *arg, struct error *err)
{
	char request[REQUEST_BYTES];
	struct reading reading = {.map = map, .element = cb, .arg = arg};
	struct nftnl_set *set = nft_set_of(nft, map);
	enum status status;
	if (!set)
		return out_of_memory(err);
	do {
		struct nlmsghdr *message = nftnl_nlmsg_build_hdr(
			request, NFT_MSG_GETSETELEM, NFPROTO_INET, NLM_F_DUMP, nft->sequence++);
		nftnl_set_elems_nlmsg_build_payload(message, set);
		begin(arg);
		status = nft_query(nft, message, on_elements, &reading, err);
	} while (status == STATUS_ABORTED && !reading.stopped);
	nftnl_set_free(set);
	return reading.stopped ? out_of_memory(err) : status;
}

static bool keep_element(const struct nft_map *map, const struct nft_element *element, void *arg)
{
	(void)map;
	*(struct nft_element *)arg = *element;
	return true;
}

bool nft_read_element(struct nft *nft, const struct nft_part *part, struct nft_element *ret_element)
{
	char request[REQUEST_BYTES];
	struct nft_element found = {0};
	struct reading reading = {.map = &part->map, .element = keep_element, .arg = &found};
	struct nftnl_set *set = nft_set_of(nft, &part->map);
	struct nftnl_set_elem *element = set ? nftnl_set_elem_alloc() : NULL;
	enum status status = STATUS_RESOURCE_EXHAUSTED;
	if (element) {
		nftnl_set_elem_set(element, NFTNL_SET_ELEM_KEY, part->key, part->key_size);
		nftnl_set_elem_add(set, element);
		struct nlmsghdr *message = nftnl_nlmsg_build_hdr(
			request, NFT_MSG_GETSETELEM, NFPROTO_INET, NLM_F_ACK, nft->sequence++);
		nftnl_set_elems_nlmsg_build_payload(message, set);
		status = nft_query(nft, message, on_elements, &reading, NULL);
	}
	if (set)
		nftnl_set_free(set);
	if (status || found.key_size == 0)
		return false;
	*ret_element = found;
	return true;
}

/* ---- objects ---- */

static int on_object(const struct nlmsghdr *message, void *arg)
{
	struct reading *reading = arg;
	struct nft_object object = {0};
	uint32_t size = 0;
	struct nftnl_obj *found = nftnl_obj_alloc();
	if (!found)
		return nft_no_memory();
	const char *name = nftnl_obj_nlmsg_parse(message, found) < 0
		? NULL
		: nftnl_obj_get_str(found, NFTNL_OBJ_NAME);
	uint32_t type = name ? nftnl_obj_get_u32(found, NFTNL_OBJ_TYPE) : 0;
	object.is_limit = type == NFT_OBJECT_LIMIT;
	if (name && nft_object_grant(name, &object.grant) &&
		(type == NFT_OBJECT_LIMIT || type == NFT_OBJECT_COUNTER)) {
		if (!object.is_limit)
			object.counter = nftnl_obj_get_u64(found, NFTNL_OBJ_CTR_PKTS);
		else if (nftnl_obj_get_u64(found, NFTNL_OBJ_LIMIT_RATE) == 1)
			object.uses = nftnl_obj_get_u32(found, NFTNL_OBJ_LIMIT_BURST);
		const void *user = nftnl_obj_get_data(found, NFTNL_OBJ_USERDATA, &size);
		read_comment(user, size, NFTNL_UDATA_OBJ_COMMENT, object.comment);
		reading->stopped = !reading->object(&object, reading->arg);
	}
	nftnl_obj_free(found);
	return reading->stopped ? nft_no_memory() : MNL_CB_OK;
}

/* `grant`: NULL for all of the table. */
static struct nlmsghdr *ask_objects(
	struct nft *nft, char request[static REQUEST_BYTES], const struct id *grant, uint32_t type)
{
	struct nftnl_obj *object = nftnl_obj_alloc();
	char name[NFT_OBJECT_BYTES];
	if (!object)
		return NULL;
	nftnl_obj_set_str(object, NFTNL_OBJ_TABLE, nft->table);
	nftnl_obj_set_u32(object, NFTNL_OBJ_TYPE, type);
	if (grant) {
		nft_object_name(name, grant);
		nftnl_obj_set_str(object, NFTNL_OBJ_NAME, name);
	}
	struct nlmsghdr *message = nftnl_nlmsg_build_hdr(request, NFT_MSG_GETOBJ, NFPROTO_INET,
		grant ? NLM_F_ACK : NLM_F_DUMP, nft->sequence++);
	nftnl_obj_nlmsg_build_payload(message, object);
	nftnl_obj_free(object);
	return message;
}

enum status nft_read_objects(struct nft *nft, bool limits, void (*begin)(void *arg),
	nft_object_cb cb, void *arg, struct error *err)
{
	char request[REQUEST_BYTES];
	struct reading reading = {.object = cb, .arg = arg};
	enum status status;
	do {
		struct nlmsghdr *message = ask_objects(
			nft, request, NULL, limits ? NFT_OBJECT_LIMIT : NFT_OBJECT_COUNTER);
		if (!message)
			return out_of_memory(err);
		begin(arg);
		status = nft_query(nft, message, on_object, &reading, err);
	} while (status == STATUS_ABORTED && !reading.stopped);
	return reading.stopped ? out_of_memory(err) : status;
}

static bool keep_object(const struct nft_object *object, void *arg)
{
	*(struct nft_object *)arg = *object;
	return true;
}

bool nft_read_object(
	struct nft *nft, const struct id *grant, bool is_limit, struct nft_object *ret_object)
{
	char request[REQUEST_BYTES];
	struct nft_object found = {0};
	struct reading reading = {.object = keep_object, .arg = &found};
	struct nlmsghdr *message =
		ask_objects(nft, request, grant, is_limit ? NFT_OBJECT_LIMIT : NFT_OBJECT_COUNTER);
	if (!message || nft_query(nft, message, on_object, &reading, NULL) ||
		!id_equal(&found.grant, grant))
		return false;
	*ret_object = found;
	return true;
}
