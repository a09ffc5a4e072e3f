/* What user space must compute exactly as the kernel does: shards and limits. */
#include <criterion/criterion.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "agent/datapath/nft_internal.h"

static struct door door(const char *client, const char *remote, uint16_t port, uint8_t transport)
{
	struct door door = {.transport = transport};
	cr_assert(addr_parse(client, &door.from));
	cr_assert(addr_parse(remote, &door.to.addr));
	door.to.port = port;
	return door;
}

Test(nft, keys_are_laid_out_like_registers)
{
	struct door four = door("10.1.2.3", "10.4.5.6", 0x1234, IPPROTO_TCP);
	struct door six = door("fd00::1", "fd00::2", 0x1234, IPPROTO_UDP);
	uint8_t key[NFT_KEY6_BYTES];
	const uint8_t expected[NFT_KEY4_BYTES] = {
		10, 1, 2, 3, 10, 4, 5, 6, IPPROTO_TCP, 0, 0, 0, 0x12, 0x34, 0, 0};
	cr_assert_eq(nft_key(&four, key), NFT_KEY4_BYTES);
	cr_assert_arr_eq(key, expected, NFT_KEY4_BYTES);
	cr_assert_eq(nft_key(&six, key), NFT_KEY6_BYTES);
	cr_assert_eq(key[0], 0xfd);
	cr_assert_eq(key[31], 2);
	cr_assert_eq(key[32], IPPROTO_UDP);
	cr_assert_eq(key[36], 0x12);
}

static void check_spread(const unsigned *counts)
{
	for (int i = 0; i < NFT_SHARDS; i++)
		cr_assert(counts[i] > 50 && counts[i] < 160, "shard %d: %u", i, counts[i]);
}

/* That the kernel computes the same, tests/e2e/agent asks it. */
Test(nft, ports_are_spread_over_shards)
{
	unsigned counts[NFT_SHARDS] = {0};
	for (uint16_t port = 1; port <= 6400; port++) {
		struct door one = door("10.1.2.3", "10.4.5.6", port, IPPROTO_TCP);
		uint32_t shard = nft_shard(&one);
		cr_assert_lt(shard, NFT_SHARDS);
		counts[shard]++;
	}
	check_spread(counts);
}

Test(nft, many_clients_of_one_port_are_spread_too)
{
	unsigned counts[NFT_SHARDS] = {0};
	for (int i = 0; i < 6400; i++) {
		char client[ADDR_TEXT_SIZE];
		snprintf(client, sizeof client, "fd00::%x", i + 1);
		struct door one = door(client, "fd01::1", 443, IPPROTO_TCP);
		counts[nft_shard(&one)]++;
	}
	check_spread(counts);
}

/* What the kernel does with a limit (net/netfilter/nft_limit.c). I4. */
static uint64_t admits(const struct nft_limit *limit, uint64_t within_ms)
{
	unsigned __int128 cost = (unsigned __int128)limit->unit_s * 1000000000U / limit->rate;
	unsigned __int128 most = cost * limit->burst;
	cr_assert(most <= UINT64_MAX, "the kernel would refuse it: EOVERFLOW");
	/* All at the beginning, and what has trickled in until the end. */
	return (uint64_t)(limit->burst + (unsigned __int128)within_ms * 1000000U / cost);
}

Test(nft, limits_admit_exactly_what_was_granted)
{
	const uint64_t day = 86400000, uses[] = {1, 2, 1000, 30499, 30500, 30501, 200000},
		       times[] = {1, 60000, day, 6 * day, 8 * day, 30 * day};
	int counted = 0;
	for (size_t i = 0; i < sizeof uses / sizeof *uses; i++) {
		for (size_t j = 0; j < sizeof times / sizeof *times; j++) {
			struct nft_limit limit;
			if (!nft_limit_of(uses[i], times[j], &limit))
				continue; /* refused, and said so */
			counted++;
			cr_assert_eq(admits(&limit, times[j]), uses[i], "%llu in %llu ms",
				(unsigned long long)uses[i], (unsigned long long)times[j]);
		}
	}
	cr_assert_geq(counted, 30);
}

Test(nft, what_the_kernel_cannot_count_is_refused)
{
	struct nft_limit limit;
	cr_assert(nft_limit_of(1, 604800000ULL * 52, &limit), "a year is fine for one use");
	cr_assert(nft_limit_of(200000, 86400000, &limit), "the longest lifetime by default");
	cr_assert_not(nft_limit_of(10000000, 86400000, &limit));
	cr_assert_not(nft_limit_of(UINT64_MAX, 1000, &limit));
	cr_assert_not(nft_limit_of(1ULL << 32, 1, &limit));
	cr_assert_not(nft_limit_of(1, UINT64_MAX, &limit));
}

Test(nft, unlimited_never_runs_out)
{
	struct nft_limit limit;
	cr_assert(nft_limit_of(0, UINT64_MAX, &limit));
	cr_assert_geq(admits(&limit, 1000), 1000000000ULL);
	cr_assert_neq(limit.rate, 1, "a dump tells it from a limit by its rate");
}
