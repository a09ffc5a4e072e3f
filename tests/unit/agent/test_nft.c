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
	struct nft_part part;
	const uint8_t expected[NFT_KEY4_BYTES] = {
		10, 1, 2, 3, 10, 4, 5, 6, IPPROTO_TCP, 0, 0, 0, 0x12, 0x34, 0, 0};
	nft_part(&four, MAP_EXACT, 0, &part);
	cr_assert_eq(part.key_size, NFT_KEY4_BYTES);
	cr_assert_arr_eq(part.key, expected, NFT_KEY4_BYTES);
	nft_part(&six, MAP_EXACT, 0, &part);
	cr_assert_eq(part.key_size, NFT_KEY6_BYTES);
	cr_assert_eq(part.key[0], 0xfd);
	cr_assert_eq(part.key[31], 2);
	cr_assert_eq(part.key[32], IPPROTO_UDP);
	cr_assert_eq(part.key[36], 0x12);
}

/* Two clients, three ports, an external address: what must be where. */
Test(nft, parts_of_a_wide_door)
{
	struct addr froms[2];
	struct door wide = door("10.0.0.1", "10.4.5.6", 5000, IPPROTO_UDP);
	struct nft_section sections[NFT_SECTIONS_MOST];
	struct nft_part part;
	cr_assert(addr_parse("10.0.0.1", &froms[0]) && addr_parse("10.0.0.2", &froms[1]));
	wide.from = (struct addr){0};
	wide.froms = froms;
	wide.from_count = 2;
	wide.to_port_last = 5002;
	wide.oneway = true;
	cr_assert_eq(nft_shape_of(&wide), SHAPE_WIDE);
	cr_assert_eq(nft_key_count(&wide), 6);
	cr_assert_null(nft_refuse_door(&wide));
	cr_assert_eq(nft_sections(NFT_RENEW_REPLACE, &wide, sections), 3,
		"nothing of it bears a limit: no siblings");
	for (size_t i = 0; i < 6; i++) {
		char name[16];
		nft_part(&wide, MAP_WIDE_GRANT, i, &part);
		nft_map_name(name, &part.map);
		cr_assert_str_eq(name, "wgo4");
		cr_assert_eq(part.key[3], 1 + i / 3);
		cr_assert_eq(part.key[12] << 8 | part.key[13], 5000 + (int)(i % 3));
	}
}

Test(nft, sections_of_every_shape)
{
	struct door one = door("fd00::1", "fd00::2", 80, IPPROTO_TCP);
	struct nft_section sections[NFT_SECTIONS_MOST];
	cr_assert_eq(nft_sections(NFT_RENEW_IN_PLACE, &one, sections), 1);
	cr_assert_eq(nft_sections(NFT_RENEW_REPLACE, &one, sections), 2);
	cr_assert_eq(sections[1].kind, MAP_EXACT_TIME);
	one.nat = DOOR_SNAT;
	cr_assert(endpoint_parse("[fd00::9]", false, &one.outside));
	cr_assert_eq(nft_sections(NFT_RENEW_REPLACE, &one, sections), 3);
	cr_assert_eq(sections[2].kind, MAP_SNAT);
	one.outside.port = 2000;
	(void)nft_sections(NFT_RENEW_REPLACE, &one, sections);
	cr_assert_eq(sections[2].kind, MAP_SNAT_PORT);
	one.nat = DOOR_DNAT;
	one.from = (struct addr){0};
	cr_assert_eq(nft_sections(NFT_RENEW_IN_PLACE, &one, sections), 2);
	cr_assert_eq(sections[0].kind, MAP_ANYBODY);
	cr_assert_eq(sections[1].kind, MAP_DNAT_ANYBODY);
	struct nft_part part;
	nft_part(&one, MAP_DNAT_ANYBODY, 0, &part);
	cr_assert_eq(part.key_size, 24);
	cr_assert_eq(part.key[15], 9, "what arrives for the external address");
	cr_assert_eq(part.key[20] << 8 | part.key[21], 2000);
	cr_assert_eq(part.data_size, 20);
	cr_assert_eq(part.data[15], 2, "goes to the client");
	cr_assert_eq(part.data[17], 80);
}

/* A flow that was translated, and no other, finds such a door: by the external port too. */
Test(nft, translated_doors_have_maps_of_their_own)
{
	struct door one = door("10.0.0.1", "10.4.5.6", 80, IPPROTO_UDP);
	struct nft_part plain, part;
	char name[16];
	one.oneway = true;
	nft_part(&one, MAP_EXACT, 0, &plain);
	one.nat = DOOR_DNAT;
	cr_assert(endpoint_parse("10.0.0.9:2121", true, &one.outside));
	nft_part(&one, MAP_EXACT, 0, &part);
	nft_map_name(name, &part.map);
	cr_assert_str_eq(name, "no4");
	cr_assert_eq(part.key_size, NFT_KEY4_BYTES + 4);
	cr_assert_eq(part.key_size, nft_key_size(&part.map));
	cr_assert_arr_eq(part.key, plain.key, NFT_KEY4_BYTES);
	cr_assert_eq(part.key[16] << 8 | part.key[17], 2121);
	nft_part(&one, MAP_DNAT, 0, &part);
	nft_map_name(name, &part.map);
	cr_assert_str_eq(name, "d4");
	cr_assert_eq(part.key_size, NFT_KEY4_BYTES);
	cr_assert_not(nft_map_exists(NFT_RENEW_REPLACE,
		&(struct nft_map){.kind = MAP_EXACT, .translated = true, .shard = 1}));
	cr_assert(nft_map_exists(
		NFT_RENEW_REPLACE, &(struct nft_map){.kind = MAP_EXACT_TIME, .translated = true}));
	cr_assert_not(nft_map_exists(
		NFT_RENEW_REPLACE, &(struct nft_map){.kind = MAP_SNAT, .translated = true}));
}

/* What is left of a door can be taken away, though nothing tells its external address any more. */
Test(nft, remains_of_a_translated_door)
{
	struct door one = door("fd00::1", "fd00::2", 80, IPPROTO_TCP), left = one;
	struct nft_section sections[NFT_SECTIONS_MOST];
	struct nft_part part, again;
	one.nat = DOOR_DNAT;
	cr_assert(endpoint_parse("[fd00::9]:2121", true, &one.outside));
	nft_part(&one, MAP_EXACT, 0, &part);
	nft_understand_translated(&part.map, part.key, &left);
	cr_assert_eq(left.nat, DOOR_DNAT);
	cr_assert_eq(nft_sections(NFT_RENEW_IN_PLACE, &left, sections), 1);
	nft_part(&left, sections[0].kind, 0, &again);
	cr_assert_eq(again.key_size, NFT_KEY_BYTES);
	cr_assert_arr_eq(again.key, part.key, NFT_KEY_BYTES);
}

Test(nft, doors_that_cannot_be_are_refused)
{
	struct door one = door("10.0.0.1", "10.0.0.2", 5000, IPPROTO_UDP);
	one.to_port_last = 5000 + NFT_KEYS_MOST - 1;
	cr_assert_null(nft_refuse_door(&one));
	one.to_port_last++;
	cr_assert_not_null(strstr(nft_refuse_door(&one), "too many ports"));
	one.to_port_last = 5001;
	one.from = (struct addr){0};
	cr_assert_not_null(strstr(nft_refuse_door(&one), "open to anybody"));
	one = door("10.0.0.1", "fd00::1", 80, IPPROTO_TCP);
	cr_assert_not_null(strstr(nft_refuse_door(&one), "different families"));
	one = door("10.0.0.1", "10.0.0.2", 80, IPPROTO_TCP);
	one.nat = DOOR_DNAT;
	cr_assert(endpoint_parse("[fd00::9]:1", true, &one.outside));
	cr_assert_not_null(strstr(nft_refuse_door(&one), "different families"));
	cr_assert(endpoint_parse("10.0.0.9", false, &one.outside));
	cr_assert_not_null(strstr(nft_refuse_door(&one), "one port on either side"));
	one.nat = DOOR_SNAT;
	cr_assert_null(nft_refuse_door(&one));
	one.from = (struct addr){0};
	cr_assert_not_null(strstr(nft_refuse_door(&one), "one client"));
	one = (struct door){.grant = one.grant};
	cr_assert_not_null(nft_refuse_door(&one));
}

Test(nft, comments_tell_translations)
{
	const char *const texts[] = {
		"snat 10.0.0.1", "snat 10.0.0.1:80", "dnat [fd00::1]:65535", "snat fd00::1"};
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
		struct door one = {0};
		char text[NFT_COMMENT_BYTES];
		nft_understand_nat(texts[i], &one);
		nft_describe_nat(text, &one);
		cr_assert_str_eq(text, texts[i]);
	}
	const char *const nonsense[] = {
		"", "snat", "snat ", "dnat 10.0.0", "dnat x:1", "nat 1.2.3.4"};
	for (size_t i = 0; i < sizeof nonsense / sizeof *nonsense; i++) {
		struct door one = {0};
		nft_understand_nat(nonsense[i], &one);
		cr_assert_eq(one.nat, DOOR_AS_IS, "%s", nonsense[i]);
	}
}

Test(nft, objects_bear_their_grant)
{
	struct id grant = id_new(), read;
	char name[NFT_OBJECT_BYTES];
	nft_object_name(name, &grant);
	cr_assert(nft_object_grant(name, &read) && id_equal(&read, &grant));
	cr_assert_not(nft_object_grant(name + 1, &read));
	cr_assert_not(nft_object_grant("quota-of-somebody", &read));
	cr_assert_not(nft_object_grant("", &read));
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
	cr_assert(most <= INT64_MAX, "the kernel would take it for less than nothing");
	/* All at the beginning, and what has trickled in until the end. */
	return (uint64_t)(limit->burst + (unsigned __int128)within_ms * 1000000U / cost);
}

Test(nft, limits_admit_exactly_what_was_granted)
{
	const uint64_t day = 86400000, uses[] = {1, 2, 1000, 15249, 15250, 15251, 100000},
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
	cr_assert(nft_limit_of(100000, 86400000, &limit), "the longest lifetime by default");
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
