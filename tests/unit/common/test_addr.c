#include "common/addr.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

Test(addr, parse_and_format)
{
	static const struct {
		const char *in, *out; /* NULL = refused */
	} cases[] = {
		{"10.77.2.2", "10.77.2.2"},
		{"0.0.0.0", "0.0.0.0"},
		{"255.255.255.255", "255.255.255.255"},
		{"FD77:2::2", "fd77:2::2"},
		{"fd77:0002:0:0:0:0:0:2", "fd77:2::2"},
		{"::", "::"},
		{"2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"},
		{"2001:0:0:1:0:0:0:1", "2001:0:0:1::1"},
		{"::ffff:10.0.0.1", "10.0.0.1"},
		{"::FFFF:a00:1", "10.0.0.1"},
		{"", NULL},
		{"10.0.0", NULL},
		{"10.0.0.256", NULL},
		{"10.0.0.01", NULL},
		{"010.0.0.1", NULL},
		{"0x0a000001", NULL},
		{" 10.0.0.1", NULL},
		{"10.0.0.1 ", NULL},
		{"[fd77::1]", NULL},
		{"fe80::1%eth0", NULL},
		{"fd77:::1", NULL},
		{"localhost", NULL},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct addr addr = {0};
		char text[ADDR_TEXT_SIZE];
		bool ok = addr_parse(cases[i].in, &addr);

		cr_expect_eq(ok, cases[i].out != NULL, "%s", cases[i].in);
		if (!ok)
			continue;
		addr_format(&addr, text);
		cr_expect_str_eq(text, cases[i].out);
	}
}

Test(addr, none_is_empty_text)
{
	struct addr none = {0};
	char text[ADDR_TEXT_SIZE] = "x";

	addr_format(&none, text);
	cr_assert_str_eq(text, "");
	cr_assert_eq(addr_length(&none), 0);
	cr_assert(addr_equal(&none, &none));
}

Test(addr, order_is_total)
{
	static const char *const sorted[] = {"1.2.3.4", "1.2.3.5", "9.0.0.0", "::1", "fd77::1"};
	struct addr a, b;

	for (size_t i = 0; i < 5; i++) {
		for (size_t j = 0; j < 5; j++) {
			addr_parse(sorted[i], &a);
			addr_parse(sorted[j], &b);
			cr_expect_eq(addr_compare(&a, &b) < 0, i < j);
			cr_expect_eq(addr_compare(&a, &b) > 0, i > j);
			cr_expect_eq(addr_equal(&a, &b), i == j);
		}
	}
}

Test(addr, forwardable)
{
	static const struct {
		const char *text;
		bool ok;
	} cases[] = {
		{"10.0.0.1", true},
		{"198.105.232.1", true},
		{"0.0.0.0", false},
		{"127.0.0.1", false},
		{"169.254.1.1", false},
		{"169.253.1.1", true},
		{"223.255.255.254", true},
		{"224.0.0.1", false},
		{"239.255.255.255", false},
		{"255.255.255.255", false},
		{"fd77::1", true},
		{"2001:db8::1", true},
		{"::", false},
		{"::1", false},
		{"fe80::1", false},
		{"febf::1", false},
		{"fec0::1", true},
		{"ff02::1", false},
		{"::ffff:127.0.0.1", false},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct addr addr;

		cr_assert(addr_parse(cases[i].text, &addr));
		cr_expect_eq(addr_is_forwardable(&addr), cases[i].ok, "%s", cases[i].text);
	}
	cr_assert_not(addr_is_forwardable(&(struct addr){0}));
	/* A mapped address that came as IPv6 bytes, not through the parser, is no way round. */
	cr_assert_not(addr_is_forwardable(&(struct addr){
		.family = ADDR_IPV6, .bytes = {[10] = 0xff, [11] = 0xff, [12] = 127, [15] = 1}}));
}

Test(endpoint, parse_and_format)
{
	static const struct {
		const char *in;
		bool need_port;
		const char *out;
	} cases[] = {
		{"10.0.0.1:21", true, "10.0.0.1:21"},
		{"[fd77::1]:21", true, "[fd77::1]:21"},
		{"10.0.0.1:0", true, "10.0.0.1:0"},
		{"10.0.0.1:65535", true, "10.0.0.1:65535"},
		{"10.0.0.1", false, "10.0.0.1:0"},
		{"fd77::1", false, "[fd77::1]:0"},
		{"[fd77::1]", false, "[fd77::1]:0"},
		{"10.0.0.1", true, NULL},
		{"fd77::1", true, NULL},
		{"[fd77::1]", true, NULL},
		{"10.0.0.1:", false, NULL},
		{"10.0.0.1:65536", true, NULL},
		{"10.0.0.1:-1", true, NULL},
		{"10.0.0.1:+1", true, NULL},
		{"10.0.0.1: 1", true, NULL},
		{"10.0.0.1:000021", true, NULL},
		{"[10.0.0.1]:21", true, NULL},
		{"[fd77::1", false, NULL},
		{"[fd77::1]21", true, NULL},
		{"[]:21", true, NULL},
		{":21", true, NULL},
		{"", false, NULL},
		{"[fd77::1111111111111111111111111111111111111111111111111111]:21", true, NULL},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct endpoint endpoint = {0};
		char text[ENDPOINT_TEXT_SIZE];
		bool ok = endpoint_parse(cases[i].in, cases[i].need_port, &endpoint);

		cr_expect_eq(ok, cases[i].out != NULL, "%s", cases[i].in);
		if (!ok)
			continue;
		endpoint_format(&endpoint, text);
		cr_expect_str_eq(text, cases[i].out);
	}
}

Test(endpoint, socket_addresses)
{
	static const char *const texts[] = {"10.0.0.1:21", "[fd77::1]:65535"};
	struct sockaddr_in6 mapped = {.sin6_family = AF_INET6, .sin6_port = htons(5)};
	struct sockaddr unix_address = {.sa_family = AF_UNIX};
	struct sockaddr_storage storage;
	struct endpoint a, b;

	for (size_t i = 0; i < 2; i++) {
		cr_assert(endpoint_parse(texts[i], true, &a));
		cr_assert_gt(endpoint_to_sockaddr(&a, &storage), 0);
		cr_assert(endpoint_from_sockaddr((struct sockaddr *)&storage, &b));
		cr_assert(endpoint_equal(&a, &b));
	}
	inet_pton(AF_INET6, "::ffff:10.0.0.9", &mapped.sin6_addr);
	cr_assert(endpoint_from_sockaddr((struct sockaddr *)&mapped, &b));
	cr_assert_eq(b.addr.family, ADDR_IPV4);
	cr_assert_not(endpoint_from_sockaddr(&unix_address, &b));
	cr_assert_eq(endpoint_to_sockaddr(&(struct endpoint){0}, &storage), 0);
}
