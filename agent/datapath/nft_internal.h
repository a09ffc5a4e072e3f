/* What the files of the nft module share: socket, transactions, names. */
#ifndef POSTERN_AGENT_DATAPATH_NFT_INTERNAL_H
#define POSTERN_AGENT_DATAPATH_NFT_INTERNAL_H

#include "agent/datapath/nft.h"

#define NFT_SHARDS 64
#define NFT_HASH_SEED 0x706f7374 /* fixed: user space computes the same shard */
#define NFT_SCHEMA "postern schema 1"
#define NFT_KEY4_BYTES 16
#define NFT_KEY6_BYTES 40
#define NFT_COMMENT_BYTES 128

struct nlmsghdr;
struct mnl_socket;
struct mnl_nlmsg_batch;

struct nft {
	struct nft_config config;
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

#define NFT_BATCH_BYTES (2 * 1024 * 1024)
#define NFT_ANSWER_BYTES (256 * 1024)

/* A transaction: begin, any number of messages (payload built by the caller, then batch_next),
 * commit. */
void batch_begin(struct nft *nft);
/* The header of the next message, to be filled; its index is what batch_commit's callback gets. */
struct nlmsghdr *batch_message(struct nft *nft, uint16_t type, uint16_t flags);
void batch_next(struct nft *nft);
bool batch_has_room(const struct nft *nft);
/* Sends all and reads every answer. `refused` is called for each message the kernel did not like
 * (errnum > 0). OK: applied. ABORTED: something was refused and nothing changed. */
enum status batch_commit(struct nft *nft, void (*refused)(void *arg, size_t index, int errnum),
	void *arg, struct error *err);

typedef int (*nft_dump_cb)(const struct nlmsghdr *message, void *arg);
/* A dump or get. NOT_FOUND: ENOENT. ABORTED: the ruleset changed meanwhile, ask again. */
enum status nft_query(
	struct nft *nft, struct nlmsghdr *message, nft_dump_cb cb, void *arg, struct error *err);
uint32_t nft_portid(const struct nft *nft);

/* "c4_1f" */
void nft_map_name(char name[static 16], bool ipv6, bool oneway, uint32_t shard);
size_t nft_key(const struct door *door, uint8_t key[static NFT_KEY6_BYTES]);
/* The limit of an element that may be used `uses` times (0 = always) within timeout_ms. False: no
 * limit of the kernel can say that. */
struct nft_limit {
	uint64_t rate, unit_s;
	uint32_t burst;
};
bool nft_limit_of(uint64_t uses, uint64_t timeout_ms, struct nft_limit *ret_limit);

/* nft_table.c */
enum nft_build {
	NFT_BUILD_ONTO, /* add what is missing, write all rules anew */
	NFT_BUILD_NEW_CHAIN, /* and make the base chain anew: its priority has changed */
	NFT_BUILD_NEW_TABLE, /* delete the table first */
};
/* Appends the whole table to the batch. `exists`: there is one to be changed or deleted. */
void nft_build_table(struct nft *nft, enum nft_build how, bool exists);
/* nft_doors.c; false: memory ran out, nothing was appended. */
bool nft_build_add(struct nft *nft, const struct door *door);
bool nft_build_remove(struct nft *nft, const struct door *door);
/* nft_watch.c: keeps our own transactions out of the watching socket. */
void nft_watch_filter(struct nft *nft);

#endif
