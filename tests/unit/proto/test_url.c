/* Addresses that programs are given, as a table. */
#include <criterion/criterion.h>
#include <string.h>

#include "proto/rpc/url.h"

Test(url, check)
{
	static const struct {
		const char *url;
		bool good;
	} rows[] = {
		{"ipc:///run/postern/posternd.sock", true},
		{"ipc://relative/path", false},
		{"ipc://", false},
		{"ipc:///0123456789012345678901234567890123456789012345678901234567890123456789"
		 "012345678901234567890123456789012345678",
			false},
		{"tls+tcp://policy.example:7411", true},
		{"tls+tcp://10.0.0.1:7411", true},
		{"tls+tcp://[fd77::1]:7411", true},
		{"tls+tcp://[::]:0", true},
		{"tls+tcp://*:7411", true},
		{"tls+tcp://:7411", true},
		{"tcp://[::ffff:10.0.0.1]:1", true},
		{"tls+tcp://fd77::1:7411", false},
		{"tls+tcp://[fd77::1]", false},
		{"tls+tcp://[fd77::1:7411", false},
		{"tls+tcp://[]:7411", false},
		{"tls+tcp://host", false},
		{"tls+tcp://host:", false},
		{"tls+tcp://host:port", false},
		{"tls+tcp://user@host:7411", false},
		{"tls+tcp://host:7411/path", false},
		{"tls+tcp://host/path:7411", false},
		{"http://host:80", false},
		{"ws://host:80", false},
		{"inproc://x", false},
		{"", false},
	};
	struct error err;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		err.text[0] = '\0';
		cr_expect_eq(url_check(rows[i].url, &err) == STATUS_OK, rows[i].good, "%s: %s",
			rows[i].url, err.text);
		cr_expect_eq(err.text[0] == '\0', rows[i].good);
	}
}

Test(url, a_long_one_is_refused_not_cut)
{
	char url[400] = "tls+tcp://";
	struct error err;
	memset(url + 10, 'a', 300);
	memcpy(url + 310, ":1", 3);
	cr_expect_eq(url_check(url, &err), STATUS_INVALID_ARGUMENT);
}

Test(url, host)
{
	char host[URL_SIZE];
	url_host(host, "tls+tcp://policy:7411");
	cr_expect_str_eq(host, "policy");
	url_host(host, "tls+tcp://[fd77::1]:7411");
	cr_expect_str_eq(host, "fd77::1");
}

Test(url, what_it_is)
{
	cr_expect(url_is_named("tls+tcp://policy:1"));
	cr_expect_not(url_is_named("tls+tcp://10.0.0.1:1"));
	cr_expect_not(url_is_named("tls+tcp://[::1]:1"));
	cr_expect_not(url_is_named("ipc:///x"));
	cr_expect(url_is_loopback("tcp://127.9.9.9:1"));
	cr_expect(url_is_loopback("tcp://[::1]:1"));
	cr_expect(url_is_loopback("tcp://[0:0:0:0:0:0:0:1]:1"));
	cr_expect(url_is_loopback("tcp://localhost:1"));
	cr_expect_not(url_is_loopback("tcp://127.0.0.1.example:1"));
	cr_expect_not(url_is_loopback("tcp://0.0.0.0:1"));
	cr_expect_not(url_is_loopback("ipc:///127.0.0.1"));
	cr_expect(url_has_host("tls+tcp://[::]:1", "[::]"));
	cr_expect_not(url_has_host("tls+tcp://[::]1:1", "[::]"));
}

Test(url, rewrite)
{
	char out[URL_SIZE];
	url_rewrite(out, "tls+tcp://name:7411", "6", NULL);
	cr_expect_str_eq(out, "tls+tcp6://name:7411");
	url_rewrite(out, "tcp://[::]:0", "", "0.0.0.0");
	cr_expect_str_eq(out, "tcp://0.0.0.0:0");
	url_rewrite(out, "tls+tcp://:7411", "", "[::]");
	cr_expect_str_eq(out, "tls+tcp://[::]:7411");
}
