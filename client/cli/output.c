/* What commands print for programs, JSON or YAML, and for people, line by line. A YAML document is
 * the message's own text; what is added to it are further keys of the same mapping, written here:
 * they are text only, in double quotes. */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <string.h>

#include "client/cli/cli.h"
#include "client/text/message.h"
#include "client/text/text.h"

bool cli_is_structured(const struct cli *cli)
{
	return cli->format != CLI_HUMAN;
}

/* ferror() keeps no cause: the first failure's errno is taken while it is still there. */
bool cli_output_is_good(struct cli *cli, bool written)
{
	if (written && !ferror(cli->out))
		return true;
	if (cli->output_errno == 0)
		cli->output_errno = errno != 0 ? errno : EIO;
	return false;
}

bool cli_push(struct cli *cli)
{
	errno = 0;
	return cli_output_is_good(cli, fflush(cli->out) == 0);
}

/* ---- YAML ---- */

/* Newlines and tabs keep their meaning; other control bytes and what is no UTF-8 become \xNN. */
static void yaml_character(FILE *out, const char *text, size_t length)
{
	char safe[32];

	if (length == 1 && *text == '\n') {
		fputs("\\n", out);
	} else if (length == 1 && *text == '\t') {
		fputs("\\t", out);
	} else if (length == 1 && (*text == '"' || *text == '\\')) {
		fprintf(out, "\\%c", *text);
	} else {
		text_escape(text, length, safe, sizeof(safe));
		fputs(safe, out);
	}
}

static void yaml_text(FILE *out, const char *key, const char *text, const char *indent)
{
	fprintf(out, "%s%s: ", indent, key);
	if (text == NULL) {
		fputs("null\n", out);
		return;
	}
	fputc('"', out);
	for (size_t left = strlen(text); left > 0;) {
		size_t n = text_utf8_length((const uint8_t *)text, left);
		if (n == 0)
			n = 1;
		yaml_character(out, text, n);
		text += n;
		left -= n;
	}
	fputs("\"\n", out);
}

static void yaml_extras(FILE *out, const struct json_extra *extra, const char *indent)
{
	for (; extra != NULL && extra->key != NULL; extra++)
		yaml_text(out, extra->key, extra->text, indent);
}

static void begin_document(struct cli *cli)
{
	if (cli->documents)
		fputs("---\n", cli->out);
	cli->documents = true;
}

static bool yaml_message(
	struct cli *cli, const ProtobufCMessage *message, const struct json_extra *extra)
{
	begin_document(cli);
	bool ok = message == NULL || message_write_yaml(cli->out, message);
	yaml_extras(cli->out, extra, "");
	return ok;
}

/* "INVALID_ARGUMENT" becomes "invalid-argument", as in JSON. */
static void yaml_code(FILE *out, const char *key, const char *name)
{
	char text[64];
	size_t n = 0;

	for (; n < sizeof(text) - 1 && name[n] != '\0'; n++)
		text[n] = name[n] == '_' ? '-' : (char)tolower((unsigned char)name[n]);
	text[n] = '\0';
	fprintf(out, "  %s: %s\n", key, n == 0 ? "null" : text);
}

static void yaml_error(struct cli *cli, const struct error *err, const struct json_extra *extra)
{
	FILE *out = cli->out;

	begin_document(cli);
	fputs("error:\n", out);
	yaml_code(out, "status", status_name(err->status));
	yaml_code(out, "reason", reason_name(err->reason));
	yaml_text(out, "rule", err->rule, "  ");
	yaml_text(out, "grant", err->grant, "  ");
	yaml_text(out, "field", err->field, "  ");
	fprintf(out, "  revision: %" PRIu64 "\n", err->revision);
	yaml_text(out, "text", err->text, "  ");
	yaml_extras(out, extra, "  ");
}

/* ---- either ---- */

bool cli_message(struct cli *cli, const ProtobufCMessage *message, const struct json_extra *extra)
{
	errno = 0;
	if (cli->format == CLI_YAML)
		return cli_output_is_good(cli, yaml_message(cli, message, extra));
	return cli_output_is_good(cli, json_print(cli->out, message, extra));
}

bool cli_error_object(struct cli *cli, const struct error *err, const struct json_extra *extra)
{
	errno = 0;
	if (cli->format != CLI_YAML)
		return cli_output_is_good(cli, json_print_error(cli->out, err, extra));
	yaml_error(cli, err, extra);
	return cli_output_is_good(cli, true);
}

/* ---- people ---- */

void cli_field(FILE *out, const char *label, const char *format, ...)
{
	char raw[4400];
	char safe[4400];
	va_list args;

	va_start(args, format);
	int n = vsnprintf(raw, sizeof(raw), format, args);
	va_end(args);
	if (n <= 0)
		return;
	text_escape(raw, (size_t)n < sizeof(raw) ? (size_t)n : sizeof(raw) - 1, safe, sizeof(safe));
	fprintf(out, "  %-12s %s\n", label, safe);
}

void cli_join(char *const *words, size_t count, char *text, size_t size)
{
	size_t used = 0;

	text[0] = '\0';
	for (size_t i = 0; i < count; i++) {
		int n = snprintf(text + used, size - used, "%s%s", i == 0 ? "" : ",", words[i]);
		if (n < 0 || (size_t)n >= size - used)
			return;
		used += (size_t)n;
	}
}
