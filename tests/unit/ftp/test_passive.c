/* The addresses in 227 and 229 replies. */
#include <criterion/criterion.h>
#include <string.h>

#include "client/inspectors/ftp/passive.h"

static const struct {
	const char *text, *endpoint; /* NULL: not readable */
} table_227[] = {
	{"227 Entering Passive Mode (10,77,2,2,4,22).\r\n", "10.77.2.2:1046"},
	{"227 Entering Passive Mode (10,77,2,2,4,22)\n", "10.77.2.2:1046"},
	{"227 =10,77,2,2,4,22\r\n", "10.77.2.2:1046"}, /* RFC 1123: no parentheses */
	{"227 10,77,2,2,255,255\r\n", "10.77.2.2:65535"},
	{"227 (10, 77, 2, 2, 4, 22)\r\n", "10.77.2.2:1046"},
	{"227 ok 7 (010,077,002,002,004,022)\r\n", "10.77.2.2:1046"}, /* decimal, as all read it */
	{"227-one\r\n more (10,77,2,2,4,22)\r\n227 end\r\n", "10.77.2.2:1046"},
	{"227 (10,77,2,2,4,22) (10,77,2,2,4,22)\r\n", "10.77.2.2:1046"},
	{"227 (10,77,2,2,4,22) (10,77,2,2,4,23)\r\n", NULL}, /* which one? */
	{"227 (10,77,2,2,0,21)\r\n", "10.77.2.2:21"}, /* low ports are judged elsewhere */
	{"227 (10,77,2,2,4)\r\n", NULL},
	{"227 (10,77,2,2,4,22,1)\r\n", NULL},
	{"227 (256,77,2,2,4,22)\r\n", NULL},
	{"227 (10,77,2,2,4,256)\r\n", NULL},
	{"227 (10,77,2,2,99999999999999999999,1)\r\n", NULL},
	{"227 (10,77,2,-2,4,22)\r\n", NULL},
	{"227 (10.77.2.2,4,22)\r\n", NULL},
	{"227 (,,,,,)\r\n", NULL},
	{"227 no\r\n", NULL},
	{"227\r\n", NULL},
	{"22", NULL},
	{"", NULL},
};

Test(passive, reads_227)
{
	for (size_t i = 0; i < sizeof(table_227) / sizeof(table_227[0]); i++) {
		const char *text = table_227[i].text;
		struct endpoint found, expected;
		bool ok = passive_parse_227((const uint8_t *)text, strlen(text), &found);

		cr_expect_eq(ok, table_227[i].endpoint != NULL, "%s", text);
		if (!ok || !table_227[i].endpoint)
			continue;
		cr_assert(endpoint_parse(table_227[i].endpoint, true, &expected));
		cr_expect(endpoint_equal(&found, &expected), "%s", text);
	}
}

static const struct {
	const char *text;
	int port; /* -1: not readable */
} table_229[] = {
	{"229 Entering Extended Passive Mode (|||6446|)\r\n", 6446},
	{"229 (!!!1!)\r\n", 1},
	{"229 (~~~65535~)\r\n", 65535},
	{"229 ok (really) (|||1046|)\r\n", 1046},
	{"229-a\r\n(|||1046|)\r\n229 b\r\n", 1046},
	{"229 (|||1046|) (|||1046|)\r\n", 1046},
	{"229 (|||1046|) (|||1047|)\r\n", -1},
	{"229 (|||65536|)\r\n", -1},
	{"229 (||||)\r\n", -1},
	{"229 (|||12a|)\r\n", -1},
	{"229 (|1|10.77.2.2|1046|)\r\n", -1}, /* RFC 2428: must be left out */
	{"229 (||!1046|)\r\n", -1},
	{"229 (11110461)\r\n", -1},
	{"229 (|||1046|", -1},
	{"229 (|||1046", -1},
	{"229 (|||", -1},
	{"229 (", -1},
	{"", -1},
};

Test(passive, reads_229)
{
	for (size_t i = 0; i < sizeof(table_229) / sizeof(table_229[0]); i++) {
		const char *text = table_229[i].text;
		uint16_t port = 0;
		bool ok = passive_parse_229((const uint8_t *)text, strlen(text), &port);

		cr_expect_eq(ok, table_229[i].port >= 0, "%s", text);
		if (ok)
			cr_expect_eq(port, table_229[i].port, "%s", text);
	}
}
