/* PORT and EPRT: the exact form is read, nothing else is; what is written is read back. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "client/inspectors/ftp/active.h"

typedef enum active_outcome parser(const uint8_t *text, size_t size, struct endpoint *ret_endpoint);

/* `text` in memory of exactly its size. */
static enum active_outcome parse(parser *function, const char *text, char *ret_text)
{
	size_t size = strlen(text);
	uint8_t *exact = malloc(size + !size);
	struct endpoint endpoint = {.port = 7};
	enum active_outcome outcome;

	memcpy(exact, text, size);
	outcome = function(exact, size, &endpoint);
	free(exact);
	if (outcome == ACTIVE_FINE)
		endpoint_format(&endpoint, ret_text);
	else
		cr_expect_eq(endpoint.port, 7, "untouched on failure: %s", text);
	return outcome;
}

Test(active, reads)
{
	static const struct {
		parser *function;
		const char *text, *expected;
	} table[] = {
		{active_parse_port, "10,77,1,2,4,22", "10.77.1.2:1046"},
		{active_parse_port, "255,255,255,255,255,255", "255.255.255.255:65535"},
		{active_parse_port, "0,0,0,0,0,0", "0.0.0.0:0"},
		{active_parse_port, "010,077,001,002,004,022", "10.77.1.2:1046"},
		{active_parse_eprt, "|1|10.77.1.2|1046|", "10.77.1.2:1046"},
		{active_parse_eprt, "|2|fd77:1::2|1046|", "[fd77:1::2]:1046"},
		{active_parse_eprt, "!2!2001:DB8:0:0:0:0:0:7!65535!", "[2001:db8::7]:65535"},
		{active_parse_eprt, "|2|2001:db8:ffff:ffff:ffff:ffff:ffff:ffff|1|",
			"[2001:db8:ffff:ffff:ffff:ffff:ffff:ffff]:1"},
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		char text[ENDPOINT_TEXT_SIZE] = "";

		cr_expect_eq(parse(table[i].function, table[i].text, text), ACTIVE_FINE, "%s",
			table[i].text);
		cr_expect_str_eq(text, table[i].expected);
	}
}

Test(active, refuses)
{
	static const char *const ports[] = {"", "1", "1,2,3,4,5", "1,2,3,4,5,", "1,2,3,4,5,6,",
		"1,2,3,4,5,6,7", "1,2,3,4,5,6 ", " 1,2,3,4,5,6", "1, 2,3,4,5,6", "1,,3,4,5,6",
		"256,2,3,4,5,6", "1,2,3,4,5,256", "0001,2,3,4,5,6", "-1,2,3,4,5,6", "+1,2,3,4,5,6",
		"0x1,2,3,4,5,6", "1.2.3.4.5.6", "(1,2,3,4,5,6)", "4294967297,2,3,4,5,6"};
	static const char *const eprts[] = {"", "|", "||||", "|1|10.77.1.2|1046",
		"1|10.77.1.2|1046|", "|1|10.77.1.2|1046||", "|1|10.77.1.2|1046| ",
		"|1|10.77.1.2|65536|", "|1|10.77.1.2||", "|1|10.77.1|1046|", "|1|10.77.1.2.3|1046|",
		"|1||1046|", "|1|fd77::1|1046|", "|2|10.77.1.2|1046|", "|2|::ffff:10.77.1.2|1046|",
		"|2|[fd77::1]|1046|", "|2|fe80::1%eth0|1046|", "|2|fd77::1|1046!",
		"|1 |10.77.1.2|1|", "|1|10.77.1.2|-1|", "|1|10.77.1.2|000080|", "|1|10.77.1.2 |80|",
		":2:fd77::1:80:", ".1.10.77.1.2.80.", "a1a10.77.1.2a80a", "11110.77.1.21801",
		"|000001|10.77.1.2|80|",
		"|2|2001:db8:ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff|1|"};
	char text[ENDPOINT_TEXT_SIZE];

	for (size_t i = 0; i < sizeof(ports) / sizeof(ports[0]); i++)
		cr_expect_eq(parse(active_parse_port, ports[i], text), ACTIVE_UNREADABLE, "%s",
			ports[i]);
	for (size_t i = 0; i < sizeof(eprts) / sizeof(eprts[0]); i++)
		cr_expect_eq(parse(active_parse_eprt, eprts[i], text), ACTIVE_UNREADABLE, "%s",
			eprts[i]);
	cr_expect_eq(parse(active_parse_eprt, "|3|x|1|", text), ACTIVE_OTHER_PROTOCOL);
	cr_expect_eq(parse(active_parse_eprt, "|0|10.77.1.2|1|", text), ACTIVE_OTHER_PROTOCOL);
}

Test(active, writes)
{
	char line[ACTIVE_LINE_SIZE];
	struct endpoint endpoint;

	cr_assert(endpoint_parse("255.255.255.255:65535", true, &endpoint));
	active_format_port(&endpoint, line);
	cr_expect_str_eq(line, "PORT 255,255,255,255,255,255\r\n");
	active_format_eprt(&endpoint, line);
	cr_expect_str_eq(line, "EPRT |1|255.255.255.255|65535|\r\n");
	cr_assert(
		endpoint_parse("[2001:db8:ffff:ffff:ffff:ffff:ffff:ffff]:65535", true, &endpoint));
	active_format_eprt(&endpoint, line);
	cr_expect_str_eq(line, "EPRT |2|2001:db8:ffff:ffff:ffff:ffff:ffff:ffff|65535|\r\n");
}
