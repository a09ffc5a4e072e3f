/* Every allocation of the datapath fails once, our own and the library's, the n-th for n from 1
 * until none is left to fail: while the table is installed, doors of every kind are added, renewed,
 * dumped and removed. Nothing may crash or leak (AddressSanitizer); what fails says so; what says
 * that it succeeded did; and the same call afterwards puts all right. In a network namespace of its
 * own; skipped without root. Linked with --wrap. */
#include <libmnl/libmnl.h>
#include <libnftnl/chain.h>
#include <libnftnl/expr.h>
#include <libnftnl/object.h>
#include <libnftnl/rule.h>
#include <libnftnl/set.h>
#include <libnftnl/table.h>
#include <libnftnl/udata.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "agent/datapath/nft_internal.h"
#include "tests/unit/failing_allocator.h"

static bool allocation_fails(void)
{
	return is_the_nth();
}

FAILING(struct nftnl_table *, nftnl_table_alloc, (void), ())
FAILING(struct nftnl_chain *, nftnl_chain_alloc, (void), ())
FAILING(struct nftnl_rule *, nftnl_rule_alloc, (void), ())
FAILING(struct nftnl_set *, nftnl_set_alloc, (void), ())
FAILING(struct nftnl_set_elem *, nftnl_set_elem_alloc, (void), ())
FAILING(struct nftnl_obj *, nftnl_obj_alloc, (void), ())
FAILING(struct nftnl_expr *, nftnl_expr_alloc, (const char *name), (name))
FAILING(struct nftnl_udata_buf *, nftnl_udata_buf_alloc, (uint32_t size), (size))
FAILING(struct mnl_nlmsg_batch *, mnl_nlmsg_batch_start, (void *bytes, size_t limit),
	(bytes, limit))

#define DOORS 6
static struct door doors[DOORS];
static struct addr several[3];
static struct nft *nft;
static struct nft_config config = {.table = "postern",
	.enforce = true,
	.mark = 0x80000000U,
	.mark_oneway = 0x40000000U,
	.boot_id = "boot"};

static void make_door(size_t at, const char *from, const char *to, uint16_t port, const char *nat)
{
	struct door *door = &doors[at];
	*door = (struct door){
		.grant = id_new(), .transport = IPPROTO_UDP, .uses = 3, .timeout_ms = 60000};
	cr_assert(!from || addr_parse(from, &door->from));
	cr_assert(addr_parse(to, &door->to.addr));
	door->to.port = port;
	nft_understand_nat(nat, door);
}

static void make_doors(void)
{
	make_door(0, "10.0.0.1", "10.0.0.2", 80, "");
	make_door(1, "fd00::1", "fd00::2", 80, "snat fd00::9");
	make_door(2, NULL, "10.0.0.2", 81, "dnat 10.0.0.9:81");
	make_door(3, "10.0.0.1", "10.0.0.2", 5000, "snat 10.0.0.9:5000");
	doors[3].to_port_last = 5009;
	make_door(4, NULL, "fd00::2", 82, "dnat [fd00::9]:82");
	cr_assert(addr_parse("fd00::3", &several[0]) && addr_parse("fd00::4", &several[1]) &&
		addr_parse("fd00::5", &several[2]));
	doors[4].froms = several;
	doors[4].from_count = 3;
	make_door(5, NULL, "fd00::2", 83, "");
	doors[5].oneway = true;
}

/* ---- what is done, each step so that it may be done again ---- */

static enum status add_all(struct nft *on)
{
	struct door_failure failures[DOORS];
	size_t failed = 0;
	struct nft_change change = {.add = doors, .add_count = DOORS};
	enum status status = nft_apply(on, &change, failures, &failed, NULL);
	return status ? status : failed ? STATUS_RESOURCE_EXHAUSTED : STATUS_OK;
}

static enum status renew_all(struct nft *on)
{
	struct door_failure failures[DOORS];
	size_t failed = 0;
	struct nft_change change = {.renew = doors, .renew_count = DOORS};
	enum status status = nft_apply(on, &change, failures, &failed, NULL);
	return status ? status : failed ? STATUS_RESOURCE_EXHAUSTED : STATUS_OK;
}

/* Another grant under the key of the first. */
static enum status replace_one(struct nft *on)
{
	struct door another = doors[0];
	struct door_failure failure;
	size_t failed = 0;
	another.grant.bytes[15] ^= 1;
	struct nft_change change = {.add = &another, .add_count = 1};
	enum status status = nft_apply(on, &change, &failure, &failed, NULL);
	if (status || failed)
		return status ? status : STATUS_RESOURCE_EXHAUSTED;
	change = (struct nft_change){
		.remove = &another, .remove_count = 1, .add = &doors[0], .add_count = 1};
	status = nft_apply(on, &change, &failure, &failed, NULL);
	return status ? status : failed ? STATUS_RESOURCE_EXHAUSTED : STATUS_OK;
}

static enum status remove_all(struct nft *on)
{
	struct door_failure none;
	size_t failed = 0;
	struct nft_change change = {.remove = doors, .remove_count = DOORS};
	return nft_apply(on, &change, &none, &failed, NULL);
}

/* All doors are there, or `none`. */
static enum status look(struct nft *on, bool none)
{
	struct held_door *held = NULL;
	size_t count = 0, whole = 0;
	enum status status = nft_dump(on, &held, &count, NULL);
	if (status)
		return status;
	for (size_t i = 0; i < count; i++)
		whole += !held[i].incomplete && !held[i].expired && held[i].door.uses == 3;
	free(held);
	cr_assert_eq(whole, none ? 0 : DOORS, "%zu whole doors of %zu", whole, count);
	cr_assert_eq(count, whole);
	return STATUS_OK;
}

static enum status look_at_all(struct nft *on)
{
	return look(on, false);
}

static enum status look_at_none(struct nft *on)
{
	return look(on, true);
}

static enum status install(struct nft *on)
{
	enum nft_adoption adoption;
	return nft_install(on, &adoption, NULL);
}

/* Into a table of the other way, and back: doors are carried over. */
static enum status carry_over(struct nft *on)
{
	struct nft_config other = config;
	other.renewal =
		config.renewal == NFT_RENEW_REPLACE ? NFT_RENEW_IN_PLACE : NFT_RENEW_REPLACE;
	nft_configure(on, &other);
	enum status status = install(on);
	nft_configure(on, &config);
	return status ? status : install(on);
}

/* Fails each allocation of a step once, or each `stride`th; afterwards it succeeds. */
static void fail_within(const char *name, enum status (*step)(struct nft *on), unsigned stride)
{
	unsigned failures = 0;
	for (unsigned n = 1;; n += stride) {
		until_failure = n;
		enum status status = step(nft);
		bool reached = until_failure == 0;
		until_failure = 0;
		if (!reached) {
			cr_assert_eq(status, STATUS_OK, "%s: %s without a failure", name,
				status_name(status));
			break;
		}
		failures++;
		cr_assert_neq(status, STATUS_INTERNAL);
	}
	cr_assert_gt(failures, 2, "%s: only %u allocations", name, failures);
	cr_assert_eq(step(nft), STATUS_OK, "%s fails for good", name);
}

static void run(enum nft_renewal renewal)
{
	if (unshare(CLONE_NEWNET) != 0)
		cr_skip_test("needs root, for a network namespace");
	config.renewal = renewal;
	make_doors();
	for (unsigned n = 1; !nft; n++) {
		until_failure = n;
		bool opened = nft_open(&config, &nft, NULL) == STATUS_OK;
		cr_assert(opened == (nft != NULL));
		if (opened && until_failure == 0) {
			/* The probe may do without: it takes the way that works everywhere. */
			nft_close(nft);
			nft = NULL;
		}
		until_failure = 0;
	}
	fail_within("install", install, 97);
	fail_within("add", add_all, 1);
	cr_assert_eq(look_at_all(nft), STATUS_OK);
	fail_within("renew", renew_all, 1);
	fail_within("replace", replace_one, 1);
	fail_within("dump", look_at_all, 7);
	fail_within("install again", install, 997);
	cr_assert_eq(look_at_all(nft), STATUS_OK);
	cr_assert_eq(carry_over(nft), STATUS_OK);
	cr_assert_eq(look_at_all(nft), STATUS_OK);
	fail_within("remove", remove_all, 1);
	fail_within("dump nothing", look_at_none, 7);
	nft_close(nft);
}

Test(nft_allocation, each_fails_once_in_place, .timeout = 100)
{
	run(NFT_RENEW_IN_PLACE);
}

Test(nft_allocation, each_fails_once_replace, .timeout = 100)
{
	run(NFT_RENEW_REPLACE);
}
