/* Our nftables table: created or adopted, doors added and removed in transactions, dumped, watched.
 * Knows libnftnl and libmnl.
 *
 * In nft's own words (SHARD is 00 to 3f, once for IPv4 and once for IPv6):
 *
 *   table inet postern {
 *     map c4_SHARD { type ipv4_addr . ipv4_addr . inet_proto . inet_service : <128 bits>;
 *                    flags timeout; limit rate 1/week burst 1; counter }
 *     map o4_SHARD { the same, for send-only UDP }
 *     chain s4_SHARD {
 *       ct label set ip saddr . ip daddr . meta l4proto . th dport map @c4_SHARD
 *         ct mark set ct mark | BIT accept
 *       meta l4proto udp ct label set ... map @o4_SHARD ct mark set ct mark | BIT | ONEWAY accept
 *     }
 *     chain forward { type filter hook forward priority P; policy drop;    # overlay: policy accept
 *       meta l4proto udp ct mark & (BIT | ONEWAY) == BIT | ONEWAY ct direction reply drop
 *       ct mark & BIT != 0 accept
 *       ct state established accept                                        # enforce mode only
 *       ct state related meta l4proto { icmp, icmpv6 } accept              # enforce mode only
 *       meta nfproto ipv4 ct state new
 *         jhash ip saddr . ip daddr . meta l4proto . th dport mod 64 vmap @v4
 *     }
 *   }
 *
 * The label is the grant's id; the limit decides atomically how many flows pass (I4); the timeout
 * closes the door (I3). */
#ifndef POSTERN_AGENT_DATAPATH_NFT_H
#define POSTERN_AGENT_DATAPATH_NFT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/door.h"
#include "common/error.h"

struct nft;

struct nft_config {
	const char *table; /* "postern" */
	bool enforce;
	int priority; /* of the forward chain */
	uint32_t mark, mark_oneway;
	/* Of this network stack; a table that bears another (a ruleset saved before a reboot and
	 * loaded again) has armed its doors anew and is not adopted. */
	const char *boot_id;
};

/* Opens the sockets; changes nothing yet. */
enum status nft_open(const struct nft_config *config, struct nft **ret_nft, struct error *err);
void nft_close(struct nft *nft); /* the table stays (I7); accepts NULL */

/* Takes effect with the next nft_install: mode and priority; the rest must be as it was. */
void nft_configure(struct nft *nft, const struct nft_config *config);

enum nft_adoption {
	NFT_CREATED = 1, /* there was none */
	NFT_ADOPTED = 2, /* its doors, limits, counters and times are as they were (I7) */
	NFT_REPLACED = 3 /* it was of another boot or shape: doors that could be kept were */
};
/* Makes the table as this configuration wants it, in one transaction: what is missing is added, the
 * rules are written anew, doors stay. Also the repair after others' hands were on it. */
enum status nft_install(struct nft *nft, enum nft_adoption *ret_adoption, struct error *err);

/* One transaction (of at most some thousand doors; more take several): removals, then additions.
 * A removal of what is gone already is fine. An addition that finds its own grant in place leaves
 * it as it is (never re-armed); another grant's door under the same key is replaced. Doors that the
 * kernel refuses are left out and told in `failures` (room for add_count). Fails as a whole when
 * nothing can be said of the doors; NOT_FOUND: the table is gone. */
enum status nft_apply(struct nft *nft, const struct door *add, size_t add_count,
	const struct door *remove, size_t remove_count, struct door_failure *failures,
	size_t *ret_failure_count, struct error *err);

/* Every door that the kernel holds, with its counter and what is left of its time. Free with
 * free(). NOT_FOUND: the table or one of its maps is gone. */
enum status nft_dump(
	struct nft *nft, struct held_door **ret_doors, size_t *ret_count, struct error *err);
/* The door under this key; false: there is none. */
bool nft_get(struct nft *nft, const struct door *key, struct held_door *ret_held);

/* Drops in other forward chains win over our accept: one line each, '\n'-separated, "" = none. */
void nft_find_problems(struct nft *nft, char *text, size_t size);

/* Readable when another program committed something. nft_watch drains it and says what it meant. */
struct nft_changes {
	bool table; /* our table, chains, rules or maps were touched: nft_install is due */
	bool doors; /* elements of our maps were touched, or may have been */
	bool others; /* chains or rules of other tables changed: problems may have */
};
int nft_watch_fd(const struct nft *nft);
void nft_watch(struct nft *nft, struct nft_changes *ret_changes);

/* The shard of a door's key, as the kernel computes it. */
uint32_t nft_shard(const struct door *door);

#endif
