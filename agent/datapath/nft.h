/* Our nftables table: created or adopted, doors added and removed in transactions, dumped, watched.
 * Knows libnftnl and libmnl.
 *
 * In nft's own words (SHARD is 00 to 3f, once for IPv4 and once for IPv6):
 *
 *   table inet postern {
 *     map c4_SHARD { type ipv4_addr . ipv4_addr . inet_proto . inet_service : <128 bits>; flags
 * timeout; limit rate 1/week burst 1; counter } map o4_SHARD { the same, for send-only UDP } chain
 * s4_SHARD { ct label set ip saddr . ip daddr . meta l4proto . th dport map @c4_SHARD ct mark set
 * ct mark | BIT accept meta l4proto udp ct label set ... map @o4_SHARD ct mark set ct mark | BIT |
 * ONEWAY accept
 *     }
 *     chain forward { type filter hook forward priority P; policy drop;            # overlay mode:
 * policy accept ct mark & (BIT | ONEWAY) == BIT | ONEWAY ct direction reply drop ct mark & BIT != 0
 * accept ct state established accept                                                # enforce mode
 * only ct state related meta l4proto { icmp, icmpv6 } accept                      # enforce mode
 * only meta nfproto ipv4 ct state new jhash ip saddr . ip daddr . meta l4proto . th dport mod 64
 * vmap @v4
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
};

/* Opens the sockets; changes nothing yet. */
enum status nft_open(const struct nft_config *config, struct nft **ret_nft, struct error *err);
void nft_close(struct nft *nft); /* the table stays (I7); accepts NULL */

/* Adopts our table if it is there and as this configuration wants it; otherwise builds it in one
 * transaction, carrying over the doors that an older shape of it holds. *ret_created: there was
 * none. */
enum status nft_adopt(struct nft *nft, bool *ret_created, struct error *err);

struct door_failure {
	struct id grant;
	char cause[96];
};

/* One transaction: removals, then additions. Doors that the kernel refuses are left out and told in
 * `failures` (room for add_count); a removal of what is gone already is fine. Fails as a whole only
 * when nothing can be done. */
enum status nft_apply(struct nft *nft, const struct door *add, size_t add_count,
	const struct door *remove, size_t remove_count, struct door_failure *failures,
	size_t *ret_failure_count, struct error *err);

/* Every door that the kernel holds, with its counter and what is left of its time. Free with
 * free(). */
enum status nft_dump(
	struct nft *nft, struct held_door **ret_doors, size_t *ret_count, struct error *err);

/* Drops in other forward chains win over our accept: one line each, '\n'-separated, "" when there
 * are none. */
void nft_find_problems(struct nft *nft, char *text, size_t size);

/* Readable when somebody changed the ruleset. nft_watch drains it: true if our table is gone or was
 * changed by others. */
int nft_watch_fd(const struct nft *nft);
bool nft_watch(struct nft *nft);

/* The shard of a door's key, as the kernel computes it. */
uint32_t nft_shard(const struct door *door);

#endif
