/* RFC 959 4.2: a reply is a line "NNN text", or lines from "NNN-text" to the next line that begins
 * with the same code and a space; what stands between may look like anything. Lines end with LF.
 * Lines outside of a reply that do not begin with a code are passed and are no reply.
 *
 * `candidate` is true from the start of a reply until its bytes show that it is not 227 or 229: so
 * at most three bytes of other replies ever wait, and only for their successors. */
#include "client/inspectors/ftp/reply.h"

static void start_line(struct reply_parser *parser)
{
	parser->column = 0;
	parser->digits = 0;
	parser->numbered = true;
	parser->separator = 0;
}

void reply_init(struct reply_parser *parser)
{
	*parser = (struct reply_parser){.candidate = true};
	start_line(parser);
}

bool reply_is_between(const struct reply_parser *parser)
{
	return parser->candidate;
}

static bool can_be_passive(const struct reply_parser *parser, uint8_t byte)
{
	if (parser->open_code)
		return true;
	switch (parser->column) {
	case 0:
	case 1:
		return byte == '2';
	case 2:
		return byte == '7' || byte == '9';
	case 3:
		return byte == ' ' || byte == '-' || byte == '\r' || byte == '\n';
	default:
		return true;
	}
}

static void look(struct reply_parser *parser, uint8_t byte)
{
	if (parser->candidate && !can_be_passive(parser, byte))
		parser->candidate = false;
	if (parser->column < 3) {
		if (byte < (parser->column == 0 ? '1' : '0') ||
			byte > (parser->column == 0 ? '6' : '9'))
			parser->numbered = false;
		else
			parser->digits = parser->digits * 10 + (unsigned)(byte - '0');
	} else if (parser->column == 3) {
		parser->separator = byte;
		if (byte != ' ' && byte != '-' && byte != '\r' && byte != '\n')
			parser->numbered = false;
	}
	if (parser->column < 4)
		parser->column++;
}

/* At a line's LF: the code of the reply that it ends, or 0. */
static unsigned end_line(struct reply_parser *parser)
{
	unsigned code = parser->numbered && parser->column == 4 ? parser->digits : 0;
	bool last = parser->separator != '-';

	start_line(parser);
	if (parser->open_code) {
		if (!last || code != parser->open_code)
			return 0;
		parser->open_code = 0;
		return code;
	}
	if (code && !last) {
		parser->open_code = code;
		return 0;
	}
	return code;
}

static struct reply_step step(
	struct reply_parser *parser, enum reply_action action, size_t size, unsigned code)
{
	parser->looked = 0;
	return (struct reply_step){action, size, code};
}

struct reply_step reply_next(struct reply_parser *parser, const uint8_t *data, size_t size)
{
	for (size_t i = parser->looked; i < size; i++) {
		bool was_candidate;
		unsigned code;

		look(parser, data[i]);
		was_candidate = parser->candidate;
		if (data[i] == '\n') {
			code = end_line(parser);
			if (!parser->open_code) {
				parser->candidate = true;
				return step(parser,
					was_candidate && code ? REPLY_PASSIVE : REPLY_PASS, i + 1,
					code);
			}
		}
		if (was_candidate && i + 1 >= REPLY_CAP) {
			parser->candidate = false;
			return step(parser, REPLY_OVERLONG, i + 1, data[2] == '7' ? 227 : 229);
		}
	}
	if (!parser->candidate && size > 0)
		return step(parser, REPLY_PASS, size, 0);
	parser->looked = size;
	return (struct reply_step){.action = REPLY_MORE};
}
