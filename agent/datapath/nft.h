/* Our nftables table: created or adopted, doors added, removed and renewed in transactions, dumped,
 * watched. Knows libnftnl and libmnl.
 *
 * In nft's own words (SHARD is 00 to 3f; all of it once for IPv4 and once for IPv6; KEY is
 * ip saddr . ip daddr . meta l4proto . th dport, TO the same without saddr):
 *
 *   table inet postern {
 *     map c4_SHARD { type ipv4_addr . ipv4_addr . inet_proto . inet_service : <128 bits>;
 *                    flags timeout; limit rate 1/week burst 1; counter }
 *     map o4_SHARD { the same, for send-only UDP }
 *     map a4, ao4 { like c4 and o4, keyed by TO: for anybody }
 *     # a wide door: several remotes, or a range of ports, with one budget
 *     limit GRANT { rate 1/week burst N }
 *     counter GRANT { }
 *     map wl4, wlo4 { KEY : limit; flags timeout }
 *     map wc4, wco4 { KEY : counter; flags timeout }
 *     map wg4, wgo4 { KEY : <128 bits>; flags timeout }
 *     # translations
 *     map x4 { KEY : ipv4_addr . inet_service; flags timeout }   # SNAT to address and port
 *     map y4 { KEY : ipv4_addr; flags timeout }                  # SNAT to an address
 *     map d4 { KEY : ipv4_addr . inet_service; flags timeout }   # DNAT
 *     map da4 { TO : ipv4_addr . inet_service; flags timeout }   # DNAT for anybody
 *     # doors with DNAT, not sharded, keyed by KEY . ct original proto-dst (TO . ...)
 *     map nc4, no4, na4, nao4, nwl4, nwlo4, nwc4, nwco4, nwg4, nwgo4 { as without n }
 *     chain s4_SHARD {
 *       ct label set KEY map @c4_SHARD ct mark set ct mark | BIT accept
 *       meta l4proto udp ct label set KEY map @o4_SHARD ct mark set ct mark | BIT | ONEWAY accept
 *     }
 *     chain n4 { the rules of s4_SHARD and all that follow the vmap below, for the maps with n }
 *     chain forward { type filter hook forward priority P; policy drop;   # overlay: accept
 *       meta l4proto udp ct mark & (BIT | ONEWAY) == BIT | ONEWAY ct direction reply drop
 *       ct mark & BIT != 0 accept
 *       ct state established accept                               # enforce mode only
 *       ct state related meta l4proto { icmp, icmpv6 } accept     # enforce mode only
 *       meta l4proto tcp ct state new tcp flags & (fin | syn | rst | ack) != syn return
 *       meta nfproto ipv4 ct state new ct status dnat jump n4
 *       meta nfproto ipv4 ct state new
 *         jhash ip saddr . ip daddr . meta l4proto . th dport mod 64 vmap { 0 : jump s4_00, ... }
 *       ct state new limit name KEY map @wl4 counter name KEY map @wc4
 *         ct label set KEY map @wg4 ct mark set ct mark | BIT accept      # and wlo4 ...
 *       ct state new ct label set TO map @a4 ct mark set ct mark | BIT accept   # and ao4
 *     }
 *     chain prerouting { type nat hook prerouting priority dstnat - 10;
 *       dnat ip to KEY map @d4
 *       dnat ip to TO map @da4
 *     }
 *     chain postrouting { type nat hook postrouting priority srcnat - 10;
 *       ct mark & BIT != 0 snat ip to KEY map @x4
 *       ct mark & BIT != 0 snat ip to KEY map @y4
 *     }
 *   }
 *
 * A door with DNAT is for flows that came for its external port and were translated: it lies in
 * maps that no other flow is looked up in, so who may use it cannot go to the client's own address
 * and port, nor use it up there. A flow that was not translated pays one comparison for that.
 *
 * (nft 1.0.6 prints all of it; its parser takes a label from a map for a mismatch of types, so what
 * it prints loads again but for those rules, which nft_install writes.)
 *
 * The label is the grant's id; the limit decides atomically how many flows pass (I4); the timeout
 * closes the door (I3). Comments of the elements say to people and to the next agent what else
 * belongs to the door.
 *
 * A door's time is moved in place where the kernel does that (Linux 6.12). Elsewhere, or when
 * told to, the elements that bear a limit stay long, and stateless siblings with the same key and
 * the exact time stand in front of them (KEY @tc4_SHARD ct label set KEY map @c4_SHARD ...), which
 * are replaced in one transaction: nothing is armed anew and no moment is without a door. */
#ifndef POSTERN_AGENT_DATAPATH_NFT_H
#define POSTERN_AGENT_DATAPATH_NFT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/door.h"
#include "common/error.h"

struct nft;

/* How a door's time is moved. */
enum nft_renewal {
	NFT_RENEW_AUTO = 0, /* in place if the kernel can, asked once by nft_open */
	NFT_RENEW_IN_PLACE = 1,
	NFT_RENEW_REPLACE = 2
};

struct nft_config {
	const char *table; /* "postern" */
	bool enforce;
	int priority; /* of the forward chain */
	uint32_t mark, mark_oneway;
	enum nft_renewal renewal;
	/* Of this network stack; a table that bears another (a ruleset saved before a reboot and
	 * loaded again) has armed its doors anew and is not adopted. */
	const char *boot_id;
};

/* Opens the sockets; changes nothing yet. */
enum status nft_open(const struct nft_config *config, struct nft **ret_nft, struct error *err);
void nft_close(struct nft *nft); /* the table stays (I7); accepts NULL */

/* NFT_RENEW_IN_PLACE or NFT_RENEW_REPLACE. */
enum nft_renewal nft_renewal(const struct nft *nft);

/* Takes effect with the next nft_install: mode and priority; the rest must be as it was. */
void nft_configure(struct nft *nft, const struct nft_config *config);

enum nft_adoption {
	NFT_CREATED = 1, /* there was none */
	NFT_ADOPTED = 2, /* its doors, limits, counters and times are as they were (I7) */
	NFT_REPLACED = 3 /* it was of another boot, or of another shape or way of renewal:
			  * then its doors were kept, with the uses and the time they had left */
};
/* Makes the table as this configuration wants it, in one transaction: what is missing is added, the
 * rules are written anew, doors stay. Also the repair after others' hands were on it. */
enum status nft_install(struct nft *nft, enum nft_adoption *ret_adoption, struct error *err);

/* What is to be done, in this order. Only an incomplete or expired held_door's remains may lack
 * what a door is made of, and only in `remove`. */
struct nft_change {
	const struct door *remove, *add, *renew;
	size_t remove_count, add_count, renew_count;
};
/* One transaction (of at most some thousand doors; more take several).
 * A removal takes everything that belongs to the door; what is gone already is fine.
 * An addition that finds its own grant in place leaves it as it is (never re-armed); of one that is
 * incomplete it adds what is missing. Another grant's door under the same key of one flow or of
 * anybody is replaced; under a key of several, a range or a translation the addition is refused.
 * A renewal moves the door's time to door.timeout_ms from now, earlier or later, and changes
 * nothing else of it: a door that is not there (expired, deleted) is not made again but told as a
 * failure. Doors that the kernel refuses are left out and told in `failures` (room for add_count +
 * renew_count). Fails as a whole when nothing can be said of the doors; NOT_FOUND: the table is
 * gone. */
enum status nft_apply(struct nft *nft, const struct nft_change *change,
	struct door_failure *failures, size_t *ret_failure_count, struct error *err);

/* Every door that the kernel holds, with its counter and what is left of its time; also incomplete
 * ones and what expired ones have left behind. Free with free(), which `froms` live in too.
 * NOT_FOUND: the table or one of its maps is gone. */
enum status nft_dump(
	struct nft *nft, struct held_door **ret_doors, size_t *ret_count, struct error *err);
/* The door under this key, which for a wide one includes its grant; false: there is none, or it is
 * incomplete. `froms` are those of `key`. */
bool nft_get(struct nft *nft, const struct door *key, struct held_door *ret_held);

/* Drops in other forward chains win over our accept: one line each, '\n'-separated, "" = none. */
void nft_find_problems(struct nft *nft, char *text, size_t size);

/* Readable when another program committed something. nft_watch drains it and says what it meant. */
struct nft_changes {
	bool table; /* our table, chains, rules or maps were touched: nft_install is due */
	bool doors; /* elements or objects of ours were touched, or may have been */
	bool others; /* chains or rules of other tables changed: problems may have */
};
int nft_watch_fd(const struct nft *nft);
void nft_watch(struct nft *nft, struct nft_changes *ret_changes);

/* The shard of an exact door's key, as the kernel computes it. */
uint32_t nft_shard(const struct door *door);

#endif
