/* What the files of the nft module share: socket, transactions, names. */
#ifndef POSTERN_AGENT_DATAPATH_NFT_INTERNAL_H
#define POSTERN_AGENT_DATAPATH_NFT_INTERNAL_H

#include "agent/datapath/nft.h"

#define NFT_SHARDS 64
#define NFT_HASH_SEED 0x706f7374 /* fixed: user space computes the same shard */
#define NFT_SCHEMA "postern schema 3"
#define NFT_KEY4_BYTES 16
#define NFT_KEY6_BYTES 40
#define NFT_KEY_BYTES 44 /* the longest */
#define NFT_DATA_BYTES 20 /* an IPv6 address and a port */
#define NFT_COMMENT_BYTES 128
#define NFT_OBJECT_BYTES 40 /* a named object's name: "g" and the grant */
#define NFT_KEYS_MOST 4096 /* of one door: they fit one transaction */

struct nftnl_set;
struct nlmsghdr;
struct mnl_socket;
struct mnl_nlmsg_batch;

struct nft {
	struct nft_config config;
	enum nft_renewal renewal; /* of the table as it will be installed */
	enum nft_renewal probed; /* what this kernel can */
	char table[64], comment[NFT_COMMENT_BYTES];
	struct mnl_socket *socket, *watch;
	uint32_t sequence;
	char *buffer; /* of the batch under way */
	char *answer; /* what the kernel says */
	struct mnl_nlmsg_batch *batch;
	uint32_t begin_sequence;
	struct nlmsghdr *last; /* message of the batch */
	size_t messages;
	bool no_destroy; /* the kernel knows DELSETELEM only */
	bool failed; /* memory ran out while the batch was built: it will not be sent */
};

#define NFT_BATCH_BYTES (4 * 1024 * 1024)
#define NFT_ANSWER_BYTES (256 * 1024)

/* A transaction: begin, any number of messages (payload built by the caller, then batch_next),
 * commit. */
void batch_begin(struct nft *nft);
/* The header of the next message, to be filled; its index is what batch_commit's callback gets. */
struct nlmsghdr *batch_message(struct nft *nft, uint16_t type, uint16_t flags);
void batch_next(struct nft *nft);
bool batch_has_room(const struct nft *nft);
/* Sends all and reads every answer. `refused` (may be NULL) is called for each message the kernel
 * did not like (errnum > 0). OK: applied. ABORTED: something was refused and nothing changed. */
enum status batch_commit(struct nft *nft, void (*refused)(void *arg, size_t index, int errnum),
	void *arg, struct error *err);

/* MNL_CB_OK, or nft_no_memory(). */
typedef int (*nft_dump_cb)(const struct nlmsghdr *message, void *arg);
/* A dump or get. NOT_FOUND: ENOENT. ABORTED: the ruleset changed meanwhile, ask again. */
enum status nft_query(
	struct nft *nft, struct nlmsghdr *message, nft_dump_cb cb, void *arg, struct error *err);
int nft_no_memory(void); /* how a callback ends a dump */
uint32_t nft_portid(const struct nft *nft);

/* ---- nft_parts.c: what a door is made of ---- */

/* Our maps. Each exists for IPv4 and IPv6; those up to MAP_WIDE_GRANT, and the times, also for
 * send-only UDP, and once more for doors whose flows must come translated (DNAT), which no other
 * flow is looked up in; the exact ones are sharded, but for those: they are no more than there are
 * external ports. */
enum nft_map_kind {
	MAP_EXACT,
	MAP_ANYBODY,
	MAP_WIDE_LIMIT,
	MAP_WIDE_COUNTER,
	MAP_WIDE_GRANT,
	MAP_SNAT_PORT,
	MAP_SNAT,
	MAP_DNAT,
	MAP_DNAT_ANYBODY,
	MAP_EXACT_TIME, /* NFT_RENEW_REPLACE only, as the next: sets */
	MAP_ANYBODY_TIME,
	MAP_KINDS
};

struct nft_map {
	enum nft_map_kind kind;
	bool ipv6, oneway;
	uint32_t shard;
	bool translated;
};

bool nft_map_exists(enum nft_renewal renewal, const struct nft_map *map);
bool nft_map_is_keyed_by_to(enum nft_map_kind kind);
/* "c4_1f", "wlo6", "x4", "nc4" */
void nft_map_name(char name[static 16], const struct nft_map *map);
uint32_t nft_key_size(const struct nft_map *map);
/* "g01234567-..." */
void nft_object_name(char name[static NFT_OBJECT_BYTES], const struct id *grant);

/* One element. */
struct nft_part {
	struct nft_map map;
	uint8_t key[NFT_KEY_BYTES], data[NFT_DATA_BYTES];
	uint32_t key_size, data_size;
};

enum nft_shape {
	SHAPE_EXACT,
	SHAPE_ANYBODY,
	SHAPE_WIDE,
	SHAPE_REMAINS /* only the objects of a wide one */
};
enum nft_shape nft_shape_of(const struct door *door);
/* Why no door can be made of it; NULL: it can. */
const char *nft_refuse_door(const struct door *door);
size_t nft_key_count(const struct door *door);

#define NFT_SECTIONS_MOST 4
/* The maps that the door has elements in, and how many there. The first is what admits. */
struct nft_section {
	enum nft_map_kind kind;
	size_t count;
};
size_t nft_sections(enum nft_renewal renewal, const struct door *door,
	struct nft_section sections[static NFT_SECTIONS_MOST]);
void nft_part(
	const struct door *door, enum nft_map_kind kind, size_t index, struct nft_part *ret_part);

/* The limit of an element that may be used `uses` times (0 = always) within timeout_ms. False: no
 * limit of the kernel can say that. */
struct nft_limit {
	uint64_t rate, unit_s;
	uint32_t burst;
};
bool nft_limit_of(uint64_t uses, uint64_t timeout_ms, struct nft_limit *ret_limit);
bool nft_limit_outlasts_renewals(const struct door *door);

/* "snat 10.0.0.1:80", "" for a door without translation, and back. */
void nft_describe_nat(char text[static NFT_COMMENT_BYTES], const struct door *door);
void nft_understand_nat(const char *text, struct door *door);

/* ---- nft_build.c: messages about parts of doors; false: memory ran out ---- */

/* `exclusive`: what is there already is an error. `closed`: it admits nobody, should it be new. */
struct nft_building {
	bool exclusive, closed;
};
/* Names the map, for its elements; NULL: memory ran out. */
struct nftnl_set *nft_set_of(const struct nft *nft, const struct nft_map *map);
bool nft_build_section(struct nft *nft, const struct door *door, const struct nft_section *section,
	struct nft_building building);
bool nft_build_section_removal(
	struct nft *nft, const struct door *door, const struct nft_section *section);
bool nft_build_element_removal(
	struct nft *nft, const struct nft_map *map, const uint8_t *key, uint32_t key_size);
bool nft_build_objects(struct nft *nft, const struct door *door);
bool nft_build_objects_removal(struct nft *nft, const struct id *grant);
/* Everything of the door: elements, then the objects that they refer to. */
bool nft_build_removal(struct nft *nft, const struct door *door, bool with_objects);

/* ---- nft_read.c: elements and objects as the kernel tells them ---- */

struct nft_element {
	uint8_t key[NFT_KEY_BYTES], data[NFT_DATA_BYTES];
	uint32_t key_size, data_size;
	char object[NFT_OBJECT_BYTES], comment[NFT_COMMENT_BYTES];
	uint64_t timeout_ms, counter, uses;
	bool closed;
};
/* False: stop. */
typedef bool (*nft_element_cb)(
	const struct nft_map *map, const struct nft_element *element, void *arg);
/* `begin` is called before the first element, and again when the dump was disturbed and begins
 * anew. NOT_FOUND: there is no such map. */
enum status nft_read_map(struct nft *nft, const struct nft_map *map, void (*begin)(void *arg),
	nft_element_cb cb, void *arg, struct error *err);
/* The element under a part's key. */
bool nft_read_element(
	struct nft *nft, const struct nft_part *part, struct nft_element *ret_element);

struct nft_object {
	struct id grant;
	bool is_limit; /* or a counter */
	char comment[NFT_COMMENT_BYTES];
	uint64_t uses, counter;
};
typedef bool (*nft_object_cb)(const struct nft_object *object, void *arg);
enum status nft_read_objects(struct nft *nft, bool limits, void (*begin)(void *arg),
	nft_object_cb cb, void *arg, struct error *err);
bool nft_read_object(
	struct nft *nft, const struct id *grant, bool is_limit, struct nft_object *ret_object);
bool nft_object_grant(const char *name, struct id *ret_grant);

/* ---- nft_get.c, nft_dump.c ---- */

/* False: not a key of ours. `from` is left alone where there is none. */
bool nft_understand_key(const struct nft_map *map, const uint8_t *key, struct addr *from,
	struct endpoint *to, uint8_t *transport);
/* What the map and the key say of a translation: its external port. The rest is in the comment. */
void nft_understand_translated(const struct nft_map *map, const uint8_t *key, struct door *door);
/* An element that admits, as a door; its time is the element's. */
bool nft_understand_admitting(
	const struct nft_map *map, const struct nft_element *element, struct held_door *ret_held);

/* The doors of a table of this kind; `lenient`: maps may be missing. */
enum status nft_dump_doors(struct nft *nft, enum nft_renewal renewal, bool lenient,
	struct held_door **ret_doors, size_t *ret_count, struct error *err);
/* The element that admits through an exact door or one for anybody, whoever's it is. */
bool nft_get_admitting(struct nft *nft, const struct door *key, struct held_door *ret_held);

/* ---- nft_table.c, nft_rules.c ---- */

enum nft_build {
	NFT_BUILD_ONTO, /* add what is missing, write all rules anew */
	NFT_BUILD_NEW_CHAIN, /* and make the base chain anew: its priority has changed */
	NFT_BUILD_NEW_TABLE, /* delete the table first */
};
/* Appends the whole table to the batch. `exists`: there is one to be changed or deleted. */
void nft_build_table(struct nft *nft, enum nft_build how, bool exists);
/* Appends the rules of a table that lets live flows go on and admits none. */
void nft_build_closed(struct nft *nft);

void nft_shard_chain(char name[static 16], bool ipv6, uint32_t shard);
void nft_put_live_rules(struct nft *nft); /* what lets flows go on that were let in */
void nft_put_forward_rules(struct nft *nft); /* and what else comes before doors */
void nft_put_shard_rules(struct nft *nft, bool ipv6, uint32_t shard);
void nft_translated_chain(char name[static 16], bool ipv6);
void nft_put_translated_rules(struct nft *nft, bool ipv6);
#define NFT_ANONYMOUS_MAP "__map%d"
/* `dispatch`: id of the anonymous map to the shards, in this transaction. */
void nft_put_family_rules(struct nft *nft, bool ipv6, uint32_t dispatch);
void nft_delete_rules(struct nft *nft);

/* ---- nft_install.c, nft_probe.c ---- */

void nft_write_comment(struct nft *nft);
/* What this kernel does with a timeout that is given again. */
enum nft_renewal nft_probe_renewal(struct nft *nft);

/* nft_watch.c: keeps our own transactions out of the watching socket. */
void nft_watch_filter(struct nft *nft);

#endif
