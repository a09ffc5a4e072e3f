/* Messages about the parts of doors: elements and named objects, made and removed.
 *
 * What is removed may have expired or been deleted by others, and a message that the kernel refuses
 * costs the whole transaction. Linux 6.3 can destroy what may not be there; before, a thing is made
 * (unless it exists) and deleted in the same transaction, which always succeeds. */
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

/* Newer than the headers of Debian 12. */
#define DESTROY_ELEMENT 30 /* NFT_MSG_DESTROYSETELEM */
#define DESTROY_OBJECT 31 /* NFT_MSG_DESTROYOBJ */
#define ELEMENTS_A_MESSAGE 256 /* the list of elements is an attribute: below 64 KiB */

#define DAY_MS 86400000ULL
/* What bears a limit outlives its sibling, which has the time: a limited grant lives at most a
 * week, renewals included. */
#define LIMITED_MS (8 * DAY_MS)
#define UNLIMITED_MS (3660 * DAY_MS)

struct nftnl_set *nft_set_of(const struct nft *nft, const struct nft_map *map)
{
	struct nftnl_set *set = nftnl_set_alloc();
	char name[16];
	if (!set)
		return NULL;
	nft_map_name(name, map);
	nftnl_set_set_str(set, NFTNL_SET_TABLE, nft->table);
	nftnl_set_set_str(set, NFTNL_SET_NAME, name);
	nftnl_set_set_u32(set, NFTNL_SET_FAMILY, NFPROTO_INET);
	return set;
}

static uint64_t element_ms(const struct nft *nft, const struct door *door, enum nft_map_kind kind)
{
	uint64_t least = door->uses ? LIMITED_MS : UNLIMITED_MS;
	if (nft->renewal != NFT_RENEW_REPLACE || (kind != MAP_EXACT && kind != MAP_ANYBODY))
		return door->timeout_ms ? door->timeout_ms : 1;
	return door->timeout_ms > least - DAY_MS ? door->timeout_ms + DAY_MS : least;
}

static bool put_limit(struct nftnl_set_elem *element, const struct door *door, bool closed)
{
	struct nftnl_expr *limit = nftnl_expr_alloc("limit");
	struct nftnl_expr *counter = nftnl_expr_alloc("counter");
	struct nft_limit values = {1, 7U * 86400, 1};
	if (!limit || !counter) {
		if (limit)
			nftnl_expr_free(limit);
		if (counter)
			nftnl_expr_free(counter);
		return false;
	}
	/* Callers have asked whether it can be counted. Over a limit that never runs out: never. */
	(void)nft_limit_of(closed ? 0 : door->uses, door->timeout_ms, &values);
	nftnl_expr_set_u64(limit, NFTNL_EXPR_LIMIT_RATE, values.rate);
	nftnl_expr_set_u64(limit, NFTNL_EXPR_LIMIT_UNIT, values.unit_s);
	nftnl_expr_set_u32(limit, NFTNL_EXPR_LIMIT_BURST, values.burst);
	nftnl_expr_set_u32(limit, NFTNL_EXPR_LIMIT_TYPE, NFT_LIMIT_PKTS);
	nftnl_expr_set_u32(limit, NFTNL_EXPR_LIMIT_FLAGS, closed ? NFT_LIMIT_F_INV : 0);
	nftnl_set_elem_add_expr(element, limit);
	nftnl_set_elem_add_expr(element, counter);
	return true;
}

/* What people and the next agent are told of the rest of the door. */
static bool put_comment(
	struct nftnl_set_elem *element, const struct door *door, enum nft_map_kind kind)
{
	char text[NFT_COMMENT_BYTES] = "";
	bool is_nat = kind >= MAP_SNAT_PORT && kind <= MAP_DNAT_ANYBODY;
	if (is_nat)
		id_format(&door->grant, text);
	else if (kind == MAP_EXACT || kind == MAP_ANYBODY)
		nft_describe_nat(text, door);
	if (!text[0])
		return true;
	struct nftnl_udata_buf *data = nftnl_udata_buf_alloc(NFT_USERDATA_MAXLEN);
	if (!data)
		return false;
	bool put = nftnl_udata_put_strz(data, NFTNL_UDATA_SET_ELEM_COMMENT, text) &&
		nftnl_set_elem_set(element, NFTNL_SET_ELEM_USERDATA, nftnl_udata_buf_data(data),
			nftnl_udata_buf_len(data)) == 0;
	nftnl_udata_buf_free(data);
	return put;
}

static bool put_value(const struct nft *nft, struct nftnl_set_elem *element,
	const struct door *door, const struct nft_part *part, bool closed)
{
	enum nft_map_kind kind = part->map.kind;
	char name[NFT_OBJECT_BYTES];
	if (part->data_size > 0)
		nftnl_set_elem_set(element, NFTNL_SET_ELEM_DATA, part->data, part->data_size);
	nftnl_set_elem_set_u64(element, NFTNL_SET_ELEM_TIMEOUT, element_ms(nft, door, kind));
	if (kind == MAP_WIDE_LIMIT || kind == MAP_WIDE_COUNTER) {
		nft_object_name(name, &door->grant);
		nftnl_set_elem_set_str(element, NFTNL_SET_ELEM_OBJREF, name);
	}
	if ((kind == MAP_EXACT || kind == MAP_ANYBODY) && !put_limit(element, door, closed))
		return false;
	return put_comment(element, door, kind);
}

/* One message: the parts from `first` on, as many as fit. `with_value`: not only their keys. */
static bool put_elements(struct nft *nft, const struct door *door,
	const struct nft_section *section, size_t first, uint16_t type, uint16_t flags,
	bool with_value, bool closed)
{
	struct nftnl_set *set = NULL;
	bool built = true;
	for (size_t i = first; i < section->count && i < first + ELEMENTS_A_MESSAGE; i++) {
		struct nft_part part;
		nft_part(door, section->kind, i, &part);
		if (!set)
			set = nft_set_of(nft, &part.map);
		struct nftnl_set_elem *element = set ? nftnl_set_elem_alloc() : NULL;
		if (!element) {
			built = false;
			break;
		}
		nftnl_set_elem_add(set, element);
		nftnl_set_elem_set(element, NFTNL_SET_ELEM_KEY, part.key, part.key_size);
		built &= !with_value || put_value(nft, element, door, &part, closed);
	}
	if (built && set) {
		nftnl_set_elems_nlmsg_build_payload(batch_message(nft, type, flags), set);
		batch_next(nft);
	}
	if (set)
		nftnl_set_free(set);
	return built;
}

bool nft_build_section(struct nft *nft, const struct door *door, const struct nft_section *section,
	struct nft_building building)
{
	uint16_t flags = (uint16_t)(NLM_F_CREATE | (building.exclusive ? NLM_F_EXCL : 0));
	bool built = true;
	for (size_t i = 0; built && i < section->count; i += ELEMENTS_A_MESSAGE)
		built = put_elements(
			nft, door, section, i, NFT_MSG_NEWSETELEM, flags, true, building.closed);
	return built;
}

bool nft_build_section_removal(
	struct nft *nft, const struct door *door, const struct nft_section *section)
{
	bool built = true;
	for (size_t i = 0; built && i < section->count; i += ELEMENTS_A_MESSAGE) {
		if (nft->no_destroy)
			built = put_elements(nft, door, section, i, NFT_MSG_NEWSETELEM,
				NLM_F_CREATE, true, true);
		built = built &&
			put_elements(nft, door, section, i,
				nft->no_destroy ? NFT_MSG_DELSETELEM : DESTROY_ELEMENT, 0, false,
				false);
	}
	return built;
}

bool nft_build_element_removal(
	struct nft *nft, const struct nft_map *map, const uint8_t *key, uint32_t key_size)
{
	struct nftnl_set *set = nft_set_of(nft, map);
	struct nftnl_set_elem *element = set ? nftnl_set_elem_alloc() : NULL;
	if (element) {
		nftnl_set_elem_add(set, element);
		nftnl_set_elem_set(element, NFTNL_SET_ELEM_KEY, key, key_size);
		nftnl_set_elems_nlmsg_build_payload(
			batch_message(
				nft, nft->no_destroy ? NFT_MSG_DELSETELEM : DESTROY_ELEMENT, 0),
			set);
		batch_next(nft);
	}
	if (set)
		nftnl_set_free(set);
	return element != NULL;
}

/* ---- objects ---- */

/* NLM_F_CREATE without NLM_F_EXCL leaves one that is there as it is. */
static void put_object(struct nft *nft, struct nftnl_obj *object, uint16_t type)
{
	nftnl_obj_nlmsg_build_payload(
		batch_message(nft, type, type == NFT_MSG_NEWOBJ ? NLM_F_CREATE : 0), object);
	batch_next(nft);
}

static struct nftnl_obj *new_object(const struct nft *nft, const struct id *grant, uint32_t type)
{
	struct nftnl_obj *object = nftnl_obj_alloc();
	char name[NFT_OBJECT_BYTES];
	if (!object)
		return NULL;
	nft_object_name(name, grant);
	nftnl_obj_set_str(object, NFTNL_OBJ_TABLE, nft->table);
	nftnl_obj_set_str(object, NFTNL_OBJ_NAME, name);
	nftnl_obj_set_u32(object, NFTNL_OBJ_FAMILY, NFPROTO_INET);
	nftnl_obj_set_u32(object, NFTNL_OBJ_TYPE, type);
	return object;
}

/* "keys 11 snat 10.0.0.1:80": so many elements are the whole door. */
static bool describe(struct nftnl_obj *object, const struct door *door)
{
	char text[NFT_COMMENT_BYTES], nat[NFT_COMMENT_BYTES];
	struct nftnl_udata_buf *data = nftnl_udata_buf_alloc(NFT_USERDATA_MAXLEN);
	if (!data)
		return false;
	nft_describe_nat(nat, door);
	snprintf(
		text, sizeof text, "keys %zu%s%.100s", nft_key_count(door), nat[0] ? " " : "", nat);
	bool put = nftnl_udata_put_strz(data, NFTNL_UDATA_OBJ_COMMENT, text);
	if (put)
		nftnl_obj_set_data(object, NFTNL_OBJ_USERDATA, nftnl_udata_buf_data(data),
			nftnl_udata_buf_len(data));
	nftnl_udata_buf_free(data);
	return put;
}

bool nft_build_objects(struct nft *nft, const struct door *door)
{
	struct nftnl_obj *limit = new_object(nft, &door->grant, NFT_OBJECT_LIMIT);
	struct nftnl_obj *counter = new_object(nft, &door->grant, NFT_OBJECT_COUNTER);
	struct nft_limit values = {1, 7U * 86400, 1};
	bool built = limit && counter && describe(counter, door);
	if (built) {
		(void)nft_limit_of(door->uses, door->timeout_ms, &values);
		nftnl_obj_set_u64(limit, NFTNL_OBJ_LIMIT_RATE, values.rate);
		nftnl_obj_set_u64(limit, NFTNL_OBJ_LIMIT_UNIT, values.unit_s);
		nftnl_obj_set_u32(limit, NFTNL_OBJ_LIMIT_BURST, values.burst);
		nftnl_obj_set_u32(limit, NFTNL_OBJ_LIMIT_TYPE, NFT_LIMIT_PKTS);
		nftnl_obj_set_u32(limit, NFTNL_OBJ_LIMIT_FLAGS, 0);
		put_object(nft, limit, NFT_MSG_NEWOBJ);
		nftnl_obj_set_u64(counter, NFTNL_OBJ_CTR_PKTS, 0);
		nftnl_obj_set_u64(counter, NFTNL_OBJ_CTR_BYTES, 0);
		put_object(nft, counter, NFT_MSG_NEWOBJ);
	}
	if (limit)
		nftnl_obj_free(limit);
	if (counter)
		nftnl_obj_free(counter);
	return built;
}

bool nft_build_objects_removal(struct nft *nft, const struct id *grant)
{
	static const uint32_t types[] = {NFT_OBJECT_LIMIT, NFT_OBJECT_COUNTER};
	for (size_t i = 0; i < 2; i++) {
		struct nftnl_obj *object = new_object(nft, grant, types[i]);
		if (!object)
			return false;
		put_object(nft, object, nft->no_destroy ? NFT_MSG_DELOBJ : DESTROY_OBJECT);
		nftnl_obj_free(object);
	}
	return true;
}

bool nft_build_removal(struct nft *nft, const struct door *door, bool with_objects)
{
	struct nft_section sections[NFT_SECTIONS_MOST];
	size_t count = nft_sections(nft->renewal, door, sections);
	enum nft_shape shape = nft_shape_of(door);
	bool is_wide = shape == SHAPE_WIDE || shape == SHAPE_REMAINS;
	bool built = true;
	if (is_wide && nft->no_destroy)
		built = nft_build_objects(nft, door);
	for (size_t i = 0; built && i < count; i++)
		built = nft_build_section_removal(nft, door, &sections[i]);
	if (built && is_wide && with_objects)
		built = nft_build_objects_removal(nft, &door->grant);
	return built;
}
