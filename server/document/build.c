#include "server/document/build.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum status build_memory(const struct build *build)
{
	return error_set(build->err, STATUS_RESOURCE_EXHAUSTED,
		"the server is out of memory for this policy document");
}

static enum status fail(const struct build *build, const char *path, const char *what)
{
	char name[DOCUMENT_NAME_SIZE + 8] = "";
	if (build->name && build->name[0])
		snprintf(name, sizeof name, " (\"%s\")", build->name);
	return error_field(build->err, path, "%s%s: %s", path, name, what);
}

enum status build_error(const struct build *build, const char *field, const char *format, ...)
{
	char path[96], what[240];
	va_list args;
	va_start(args, format);
	vsnprintf(what, sizeof what, format, args);
	va_end(args);
	snprintf(path, sizeof path, "%s[%zu]%s%s", build->kind, build->index, field[0] ? "." : "",
		field);
	return fail(build, path, what);
}

enum status build_element_error(
	const struct build *build, const char *field, size_t element, const char *format, ...)
{
	char path[96], what[240];
	va_list args;
	va_start(args, format);
	vsnprintf(what, sizeof what, format, args);
	va_end(args);
	snprintf(path, sizeof path, "%s[%zu].%s[%zu]", build->kind, build->index, field, element);
	return fail(build, path, what);
}

enum status build_adopt(
	const struct build *build, const char *field, size_t element, const struct error *cause)
{
	if (cause->status != STATUS_INVALID_ARGUMENT)
		return build_memory(build);
	return build_element_error(build, field, element, "%s", cause->text);
}

static bool is_printable(const char *text)
{
	for (; *text; text++)
		if ((unsigned char)*text < 0x20 || *text == 0x7f)
			return false;
	return true;
}

enum status build_name(
	struct build *build, const char *kind, size_t index, const char *name, struct names *names)
{
	bool memory = false;
	build->kind = kind;
	build->index = index;
	build->name = "";
	size_t length = strlen(name);
	if (length == 0)
		return build_error(build, "name", "every one needs a name");
	if (length >= DOCUMENT_NAME_SIZE)
		return build_error(
			build, "name", "%zu bytes, at most %d", length, DOCUMENT_NAME_SIZE - 1);
	if (!is_printable(name) || name[0] == ' ' || name[length - 1] == ' ')
		return build_error(build, "name",
			"without control characters, and without blanks at its ends");
	const struct name *known = names_add(names, name, &memory);
	if (memory)
		return build_memory(build);
	if (known)
		return build_error(build, "name", "\"%s\" is the name of %s[%zu] already", name,
			kind, known->index);
	build->name = name;
	return STATUS_OK;
}

void build_suggest(const struct names *names, const char *text, char *suggestion, size_t size)
{
	const char *nearest = names_nearest(names, text);
	if (nearest)
		snprintf(suggestion, size, ": did you mean \"%s\"?", nearest);
	else
		snprintf(suggestion, size, ": define it, or take it out");
}

enum status build_refs(struct build *build, const char *field, char **texts, size_t count,
	const struct names *names, const char *what, struct document_refs *ret_refs)
{
	char suggestion[SUGGESTION_SIZE];
	*ret_refs = (struct document_refs){0};
	if (count == 0)
		return STATUS_OK;
	ret_refs->items = arena_array(build->arena, count, sizeof *ret_refs->items);
	if (!ret_refs->items)
		return build_memory(build);
	for (size_t i = 0; i < count; i++) {
		const struct name *name = names_find(names, texts[i]);
		if (!name) {
			build_suggest(names, texts[i], suggestion, sizeof suggestion);
			return build_element_error(build, field, i, "no %s is called \"%.63s\"%s",
				what, texts[i], suggestion);
		}
		ret_refs->items[ret_refs->count++] = (uint32_t)name->index;
	}
	return STATUS_OK;
}

enum status build_texts(
	const struct build *build, char **texts, size_t count, struct document_texts *ret_texts)
{
	*ret_texts = (struct document_texts){0};
	if (count == 0)
		return STATUS_OK;
	ret_texts->items = arena_array(build->arena, count, sizeof *ret_texts->items);
	if (!ret_texts->items)
		return build_memory(build);
	for (size_t i = 0; i < count; i++)
		ret_texts->items[i] = texts[i];
	ret_texts->count = count;
	return STATUS_OK;
}

enum status build_ranges(struct build *build, const char *field, char **texts, size_t count,
	struct ranges *ret_ranges)
{
	struct error cause;
	build->addresses += count;
	if (build->addresses > DOCUMENT_ADDRESSES_MAX)
		return build_error(build, field,
			"more than %d addresses in the document: take them from a feed",
			DOCUMENT_ADDRESSES_MAX);
	for (size_t i = 0; i < count; i++)
		if (ranges_add_text(ret_ranges, texts[i], &cause))
			return build_adopt(build, field, i, &cause);
	ranges_normalize(ret_ranges);
	return STATUS_OK;
}

enum status build_ports(const struct build *build, const char *field, char **texts, size_t count,
	struct ports *ret_ports)
{
	struct error cause;
	size_t bad = 0;
	enum status status =
		ports_parse((const char *const *)texts, count, ret_ports, &bad, &cause);
	return status ? build_adopt(build, field, bad, &cause) : STATUS_OK;
}
