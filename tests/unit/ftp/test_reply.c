/* FTP replies: which address or port a 227 or 229 names, in all the ways servers write them. */
#include <criterion/criterion.h>
#include <string.h>

#include "client/inspectors/ftp/reply.h"

struct vector {
	const char *line;
	bool named;
	const char *addr;
	unsigned port;
};

static const struct vector vectors[] = {
	{"227 Entering Passive Mode (10,77,2,2,4,22).", true, "10.77.2.2", 1046},
	{"227 Entering Passive Mode 10,77,2,2,4,22", true, "10.77.2.2", 1046},
	{"227 =10,77,2,2,255,255", true, "10.77.2.2", 65535},
	{"227 Entering Passive Mode (10,77,2,2,4)", false, NULL, 0},
	{"227 Entering Passive Mode (10,77,2,256,4,22)", false, NULL, 0},
	{"227 Entering Passive Mode (1,10,77,2,2,4,22)", false, NULL, 0},
	{"227 Entering Passive Mode (10,77,2,2,4,0022)", false, NULL, 0},
	{"227", false, NULL, 0},
	{"229 Entering Extended Passive Mode (|||40123|)", true, "", 40123},
	{"229 Extended (!!!6446!)", true, "", 6446},
	{"229 Extended (|1|10.0.0.1|6446|)", false, NULL, 0},
	{"229 Extended (|||65536|)", false, NULL, 0},
	{"229 Extended (|||)", false, NULL, 0},
	{"229 Extended (|||22", false, NULL, 0},
};

Test(reply, vectors)
{
	for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++) {
		struct reply reply = {0};
		struct reply_end end;
		char addr[ADDR_TEXT_SIZE];
		cr_assert(reply_line(&reply, vectors[i].line, strlen(vectors[i].line), &end), "%s",
			vectors[i].line);
		cr_expect_eq(end.has_endpoint, vectors[i].named, "%s", vectors[i].line);
		if (!vectors[i].named || !end.has_endpoint)
			continue;
		addr_format(&end.named.addr, addr);
		cr_expect_str_eq(addr, vectors[i].addr, "%s", vectors[i].line);
		cr_expect_eq(end.named.port, vectors[i].port, "%s", vectors[i].line);
	}
}

Test(reply, several_lines_are_one_reply)
{
	static const char *const lines[] = {
		"227-Entering", " 10,77,2,2,4,22", "226 not the end", "227 done"};
	struct reply reply = {0};
	struct reply_end end;
	for (size_t i = 0; i < 3; i++)
		cr_assert_not(reply_line(&reply, lines[i], strlen(lines[i]), &end), "%s", lines[i]);
	cr_assert(reply_line(&reply, lines[3], strlen(lines[3]), &end));
	cr_expect_eq(end.code, 227);
	cr_expect(end.has_endpoint);
	cr_expect_eq(end.named.port, 1046);
}

Test(reply, what_is_no_reply_is_passed_over)
{
	struct reply reply = {0};
	struct reply_end end;
	cr_expect_not(reply_line(&reply, "", 0, &end));
	cr_expect_not(reply_line(&reply, "hello", 5, &end));
	cr_expect_not(reply_line(&reply, "999 no", 6, &end));
	cr_expect(reply_line(&reply, "220 ready", 9, &end));
	cr_expect_eq(end.code, 220);
}
