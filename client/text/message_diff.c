/* What differs between two messages. Elements with a name are found by it, so that a rule that
 * moved is no change. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/text/message.h"
#include "client/text/walk.h"

struct comparing {
	message_change_cb cb;
	void *arg;
	bool failed;
};

/* ---- values as text ---- */

/* YAML of one field's value, or NULL when it has its default. The caller frees it. */
static char *field_text(struct comparing *comparing, const ProtobufCMessage *message,
	const ProtobufCFieldDescriptor *field)
{
	const ProtobufCMessageDescriptor *type = message->descriptor;
	ProtobufCMessage *alone;
	char *text = NULL, *value;
	size_t size = 0;

	if (walk_is_default(message, field))
		return NULL;
	/* The message with this field only; it borrows. */
	alone = malloc(type->sizeof_message);
	FILE *out = alone == NULL ? NULL : open_memstream(&text, &size);
	if (out == NULL) {
		free(alone);
		comparing->failed = true;
		return NULL;
	}
	protobuf_c_message_init(type, alone);
	memcpy((char *)alone + field->offset, (const char *)message + field->offset,
		field->label == PROTOBUF_C_LABEL_REPEATED ? sizeof(void *) : walk_size(field));
	if (field->label == PROTOBUF_C_LABEL_REPEATED)
		*(size_t *)(void *)((char *)alone + field->quantifier_offset) =
			walk_count(message, field);
	bool written = message_write_yaml(out, alone);
	free(alone);
	if (fclose(out) != 0 || !written) {
		comparing->failed = true;
		free(text);
		return NULL;
	}
	value = strdup(text + strlen(field->name) + 1);
	free(text);
	if (value == NULL) {
		comparing->failed = true;
		return NULL;
	}
	while (value[0] == ' ')
		memmove(value, value + 1, strlen(value));
	for (size_t n = strlen(value); n > 0 && value[n - 1] == '\n'; n--)
		value[n - 1] = '\0';
	return value;
}

static char *message_text(struct comparing *comparing, const ProtobufCMessage *message)
{
	char *text = NULL;
	size_t size = 0;
	FILE *out = open_memstream(&text, &size);
	bool written = out != NULL && message_write_yaml(out, message);

	if (out == NULL || fclose(out) != 0 || !written) {
		comparing->failed = true;
		free(text);
		return NULL;
	}
	for (size_t n = strlen(text); n > 0 && text[n - 1] == '\n'; n--)
		text[n - 1] = '\0';
	return text;
}

/* ---- elements ---- */

struct element {
	const ProtobufCMessage *message;
	char *key; /* its name, or its packed bytes */
	size_t size;
	size_t index;
	bool is_named, met;
};

/* `name`, or what comes first where there is none ("filter"). */
static const char *name_of_element(const ProtobufCMessage *message)
{
	const ProtobufCMessageDescriptor *type = message->descriptor;
	const ProtobufCFieldDescriptor *field =
		protobuf_c_message_descriptor_get_field_by_name(type, "name");

	if (field == NULL)
		field = &type->fields[0];
	if (field->type != PROTOBUF_C_TYPE_STRING)
		return "";
	return *(char *const *)(const void *)((const char *)message + field->offset);
}

static int by_key(const void *a, const void *b)
{
	const struct element *x = a, *y = b;
	size_t size = x->size < y->size ? x->size : y->size;
	int order = memcmp(x->key, y->key, size);

	if (order != 0)
		return order;
	if (x->size != y->size)
		return x->size < y->size ? -1 : 1;
	return (x->index > y->index) - (x->index < y->index);
}

static int by_index(const void *a, const void *b)
{
	const struct element *x = a, *y = b;

	return (x->index > y->index) - (x->index < y->index);
}

static void elements_free(struct element *elements, size_t count)
{
	for (size_t i = 0; elements != NULL && i < count; i++)
		free(elements[i].key);
	free(elements);
}

static struct element *elements_of(struct comparing *comparing, const ProtobufCMessage *message,
	const ProtobufCFieldDescriptor *field, size_t *ret_count)
{
	size_t count = walk_count(message, field);
	ProtobufCMessage **list =
		*(ProtobufCMessage ***)(uintptr_t)((const char *)message + field->offset);
	struct element *elements = calloc(count + 1, sizeof(*elements));

	*ret_count = count;
	for (size_t i = 0; elements != NULL && i < count; i++) {
		struct element *one = &elements[i];
		const char *name = name_of_element(list[i]);
		one->message = list[i];
		one->index = i;
		one->is_named = name[0] != '\0';
		one->size =
			one->is_named ? strlen(name) : protobuf_c_message_get_packed_size(list[i]);
		one->key = malloc(one->size + 1);
		if (one->key == NULL) {
			elements_free(elements, i);
			elements = NULL;
			break;
		}
		if (one->is_named)
			memcpy(one->key, name, one->size);
		else
			protobuf_c_message_pack(list[i], (uint8_t *)one->key);
	}
	if (elements == NULL)
		comparing->failed = true;
	else
		qsort(elements, count, sizeof(*elements), by_key);
	return elements;
}

static void compare_messages(struct comparing *comparing, const ProtobufCMessage *before,
	const ProtobufCMessage *after, const char *prefix);

static void element_path(
	const ProtobufCFieldDescriptor *field, const struct element *one, char *path, size_t size)
{
	if (one->is_named)
		snprintf(path, size, "%s \"%.*s\"", field->name, (int)one->size, one->key);
	else
		snprintf(path, size, "%s %zu", field->name, one->index + 1);
}

static void tell_element(struct comparing *comparing, const ProtobufCFieldDescriptor *field,
	const struct element *one, enum message_change change)
{
	char path[160], *text = message_text(comparing, one->message);

	element_path(field, one, path, sizeof(path));
	if (text != NULL)
		comparing->cb(comparing->arg, change, path, change == MESSAGE_REMOVED ? text : NULL,
			change == MESSAGE_ADDED ? text : NULL);
	free(text);
}

static int same_key(const struct element *a, const struct element *b)
{
	size_t size = a->size < b->size ? a->size : b->size;
	int order = memcmp(a->key, b->key, size);

	return order != 0 ? order : (a->size > b->size) - (a->size < b->size);
}

/* Pairs of the same key, in order; what has none was added or removed. */
static void compare_elements(struct comparing *comparing, const ProtobufCMessage *before,
	const ProtobufCMessage *after, const ProtobufCFieldDescriptor *field)
{
	size_t old_count, new_count, i = 0, j = 0;
	struct element *old = elements_of(comparing, before, field, &old_count);
	struct element *new = elements_of(comparing, after, field, &new_count);

	while (!comparing->failed && i < old_count && j < new_count) {
		int order = same_key(&old[i], &new[j]);
		if (order == 0) {
			char path[160];
			element_path(field, &new[j], path, sizeof(path));
			old[i].met = new[j].met = true;
			compare_messages(comparing, old[i].message, new[j].message, path);
		}
		i += order <= 0;
		j += order >= 0;
	}
	if (!comparing->failed) {
		qsort(old, old_count, sizeof(*old), by_index);
		qsort(new, new_count, sizeof(*new), by_index);
	}
	for (i = 0; !comparing->failed && i < old_count; i++)
		if (!old[i].met)
			tell_element(comparing, field, &old[i], MESSAGE_REMOVED);
	for (j = 0; !comparing->failed && j < new_count; j++)
		if (!new[j].met)
			tell_element(comparing, field, &new[j], MESSAGE_ADDED);
	elements_free(old, old_count);
	elements_free(new, new_count);
}

/* ---- fields ---- */

static void compare_field(struct comparing *comparing, const ProtobufCMessage *before,
	const ProtobufCMessage *after, const ProtobufCFieldDescriptor *field, const char *prefix)
{
	char path[256], *old = field_text(comparing, before, field);
	char *new = field_text(comparing, after, field);
	bool differs = (old == NULL) != (new == NULL) || (old != NULL && strcmp(old, new) != 0);

	snprintf(path, sizeof(path), "%s%s%s", prefix, prefix[0] != '\0' ? ": " : "", field->name);
	if (!comparing->failed && differs)
		comparing->cb(comparing->arg,
			old == NULL           ? MESSAGE_ADDED
				: new == NULL ? MESSAGE_REMOVED
					      : MESSAGE_CHANGED,
			path, old, new);
	free(old);
	free(new);
}

static void compare_messages(struct comparing *comparing, const ProtobufCMessage *before,
	const ProtobufCMessage *after, const char *prefix)
{
	const ProtobufCMessageDescriptor *type = before->descriptor;

	for (unsigned i = 0; i < type->n_fields && !comparing->failed; i++) {
		const ProtobufCFieldDescriptor *field = &type->fields[i];
		if (field->type == PROTOBUF_C_TYPE_MESSAGE &&
			field->label == PROTOBUF_C_LABEL_REPEATED && prefix[0] == '\0')
			compare_elements(comparing, before, after, field);
		else
			compare_field(comparing, before, after, field, prefix);
	}
}

bool message_diff(const ProtobufCMessage *before, const ProtobufCMessage *after,
	message_change_cb cb, void *arg)
{
	struct comparing comparing = {.cb = cb, .arg = arg};

	compare_messages(&comparing, before, after, "");
	return !comparing.failed;
}
