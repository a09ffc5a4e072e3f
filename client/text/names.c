#include "client/text/names.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "common/config.h"

#define MAX_VALUES 64

/* "EndReason" makes "END_REASON_": what protoc's style puts before every value of the enum. */
static size_t prefix_length(const ProtobufCEnumDescriptor *type, const char *value)
{
	size_t at = 0;

	for (const char *p = type->short_name; *p != '\0'; p++) {
		if (p != type->short_name && isupper((unsigned char)*p)) {
			if (value[at] != '_')
				return 0;
			at++;
		}
		if (value[at] != (char)toupper((unsigned char)*p))
			return 0;
		at++;
	}
	return value[at] == '_' ? at + 1 : 0;
}

static void shorten(const ProtobufCEnumDescriptor *type, const char *value, char text[NAME_SIZE])
{
	const char *rest = value + prefix_length(type, value);
	size_t n = 0;

	for (; n < NAME_SIZE - 1 && rest[n] != '\0'; n++)
		text[n] = rest[n] == '_' ? '-' : (char)tolower((unsigned char)rest[n]);
	text[n] = '\0';
}

static bool is_nothing(const ProtobufCEnumValue *value, const char *name)
{
	return value->value == 0 && (strcmp(name, "unspecified") == 0 || strcmp(name, "none") == 0);
}

void name_of(const ProtobufCEnumDescriptor *type, int value, char text[static NAME_SIZE])
{
	for (unsigned i = 0; i < type->n_values; i++) {
		if (type->values[i].value != value)
			continue;
		shorten(type, type->values[i].name, text);
		if (is_nothing(&type->values[i], text))
			text[0] = '\0';
		return;
	}
	snprintf(text, NAME_SIZE, "%d", value);
}

bool name_at(const ProtobufCEnumDescriptor *type, unsigned i, char text[static NAME_SIZE])
{
	for (unsigned v = 0; v < type->n_values; v++) {
		char name[NAME_SIZE];

		shorten(type, type->values[v].name, name);
		if (is_nothing(&type->values[v], name))
			continue;
		if (i-- == 0) {
			memcpy(text, name, NAME_SIZE);
			return true;
		}
	}
	return false;
}

bool name_parse(const ProtobufCEnumDescriptor *type, const char *text, int *ret_value)
{
	for (unsigned i = 0; i < type->n_values; i++) {
		char name[NAME_SIZE];

		shorten(type, type->values[i].name, name);
		if (strcmp(name, text) == 0 && !is_nothing(&type->values[i], name)) {
			*ret_value = type->values[i].value;
			return true;
		}
	}
	return false;
}

bool name_nearest(
	const ProtobufCEnumDescriptor *type, const char *word, char text[static NAME_SIZE])
{
	char names[MAX_VALUES][NAME_SIZE];
	const char *words[MAX_VALUES + 1];
	unsigned n = 0;

	while (n < MAX_VALUES && name_at(type, n, names[n])) {
		words[n] = names[n];
		n++;
	}
	words[n] = NULL;
	const char *near = nearest_word(word, words);
	if (near == NULL)
		return false;
	snprintf(text, NAME_SIZE, "%s", near);
	return true;
}

void name_list(const ProtobufCEnumDescriptor *type, const char *separator, char *text, size_t size)
{
	char name[NAME_SIZE];
	size_t used = 0;

	text[0] = '\0';
	for (unsigned i = 0; name_at(type, i, name); i++) {
		int n = snprintf(text + used, size - used, "%s%s", i == 0 ? "" : separator, name);
		if (n < 0 || (size_t)n >= size - used)
			return;
		used += (size_t)n;
	}
}
