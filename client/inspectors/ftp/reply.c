#include "client/inspectors/ftp/reply.h"

#include <string.h>

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static int code_of(const char *line, size_t length)
{
	if (length < 3 || !is_digit(line[0]) || !is_digit(line[1]) || !is_digit(line[2]) ||
		line[0] < '1' || line[0] > '6')
		return 0;
	return (line[0] - '0') * 100 + (line[1] - '0') * 10 + (line[2] - '0');
}

/* "h1,h2,h3,h4,p1,p2" anywhere behind the code: RFC 1123 4.1.2.6 says not to rely on the
 * parentheses. */
static bool parse_227(const char *text, size_t length, struct endpoint *ret_named)
{
	for (size_t start = 0; start < length; start++) {
		unsigned numbers[6], count = 0;
		size_t at = start;
		if (!is_digit(text[start]) ||
			(start > 0 && (is_digit(text[start - 1]) || text[start - 1] == ',')))
			continue;
		while (count < 6 && at < length && is_digit(text[at])) {
			unsigned value = 0;
			size_t digits = 0;
			for (; at < length && is_digit(text[at]) && digits < 4; at++, digits++)
				value = value * 10 + (unsigned)(text[at] - '0');
			if (digits > 3 || value > 255)
				break;
			numbers[count++] = value;
			if (count < 6) {
				if (at >= length || text[at] != ',')
					break;
				at++;
			}
		}
		if (count != 6 || (at < length && (is_digit(text[at]) || text[at] == ',')))
			continue;
		memset(ret_named, 0, sizeof *ret_named);
		ret_named->addr.family = ADDR_IPV4;
		for (int i = 0; i < 4; i++)
			ret_named->addr.bytes[i] = (uint8_t)numbers[i];
		ret_named->port = (uint16_t)(numbers[4] << 8 | numbers[5]);
		return true;
	}
	return false;
}

/* "(|||port|)" with any printable delimiter (RFC 2428). */
static bool parse_229(const char *text, size_t length, struct endpoint *ret_named)
{
	for (size_t at = 0; at + 5 < length; at++) {
		char mark = text[at + 1];
		size_t end = at + 4;
		unsigned port = 0;
		if (text[at] != '(' || mark < 33 || mark > 126 || is_digit(mark) ||
			text[at + 2] != mark || text[at + 3] != mark)
			continue;
		for (; end < length && is_digit(text[end]) && port <= UINT16_MAX; end++)
			port = port * 10 + (unsigned)(text[end] - '0');
		if (end == at + 4 || port > UINT16_MAX || end + 1 >= length || text[end] != mark ||
			text[end + 1] != ')')
			continue;
		memset(ret_named, 0, sizeof *ret_named);
		ret_named->port = (uint16_t)port;
		return true;
	}
	return false;
}

bool reply_line(struct reply *reply, const char *line, size_t length, struct reply_end *ret_end)
{
	int code = code_of(line, length);
	if (reply->code == 0) {
		if (code == 0)
			return false;
		reply->code = code;
		reply->has_endpoint = false;
	}
	size_t skip = code ? 3 : 0;
	if (!reply->has_endpoint && reply->code == 227)
		reply->has_endpoint = parse_227(line + skip, length - skip, &reply->named);
	else if (!reply->has_endpoint && reply->code == 229)
		reply->has_endpoint = parse_229(line + skip, length - skip, &reply->named);
	/* "227-" continues; "227 " or "227" alone ends; other lines in between are text. */
	if (code != reply->code || (length > 3 && line[3] == '-'))
		return false;
	ret_end->code = reply->code;
	ret_end->has_endpoint = reply->has_endpoint;
	ret_end->named = reply->named;
	memset(reply, 0, sizeof *reply);
	return true;
}
