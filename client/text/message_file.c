/* Messages from files: reading, joining, and where each value stands. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/text/mapping.h"
#include "client/text/yaml.h"
#include "common/config.h"

#define FILES_MAX 1024
#define READ_STEP (1U << 20)

struct place_file {
	char *name;
	struct node_tree tree;
};

struct message_places {
	struct place_file *files;
	size_t count;
	size_t total; /* bytes of all files */
	const ProtobufCMessageDescriptor *type;
};

static enum status out_of_memory(struct error *err)
{
	return error_set(err, STATUS_RESOURCE_EXHAUSTED, "out of memory");
}

static void places_free(struct message_places *places)
{
	if (places == NULL)
		return;
	for (size_t i = 0; i < places->count; i++) {
		free(places->files[i].name);
		node_tree_fini(&places->files[i].tree);
	}
	free(places->files);
	free(places);
}

void message_file_free(struct message_file *document)
{
	if (document == NULL)
		return;
	if (document->message != NULL)
		protobuf_c_message_free_unpacked(document->message, NULL);
	places_free(document->places);
	free(document);
}

/* ---- bytes ---- */

static enum status too_large(const char *name, struct error *err)
{
	return error_set(err, STATUS_INVALID_ARGUMENT,
		"%.120s: more than %u MiB: take long lists of addresses from a feed", name,
		MESSAGE_SIZE_MAX >> 20);
}

static enum status read_all(
	int fd, const char *name, char **ret_bytes, size_t *ret_size, struct error *err)
{
	char *bytes = NULL;
	size_t size = 0, room = 0;

	for (;;) {
		if (!node_reserve((void **)&bytes, size, &room, READ_STEP, 1)) {
			free(bytes);
			return out_of_memory(err);
		}
		ssize_t got = read(fd, bytes + size, READ_STEP);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0) {
			free(bytes);
			return error_errno(err, STATUS_INVALID_ARGUMENT, errno, "%.120s", name);
		}
		if (got == 0)
			break;
		size += (size_t)got;
		if (size > MESSAGE_SIZE_MAX) {
			free(bytes);
			return too_large(name, err);
		}
	}
	*ret_bytes = bytes;
	*ret_size = size;
	return STATUS_OK;
}

/* ---- files ---- */

/* A value that is not a list may stand in one file only. */
static enum status check_once(const struct message_places *places, const struct node_tree *tree,
	const char *name, struct error *err)
{
	const struct node *root = node_root(tree);

	if (root == NULL || root->kind != NODE_MAPPING)
		return STATUS_OK;
	for (size_t i = 0; i + 1 < root->count; i += 2) {
		const struct node *key = node_child(tree, root, i);
		const ProtobufCFieldDescriptor *field =
			protobuf_c_message_descriptor_get_field_by_name(
				places->type, node_text(tree, key));
		if (field == NULL || field->label == PROTOBUF_C_LABEL_REPEATED)
			continue;
		for (size_t j = 0; j < places->count; j++) {
			const struct node *other = node_root(&places->files[j].tree);
			const struct node *value = other == NULL || other->kind != NODE_MAPPING
				? NULL
				: node_value(&places->files[j].tree, other, field->name);
			if (value != NULL)
				return error_field(err, field->name,
					"%.100s:%u:%u: \"%s\" stands in %.100s:%u already: it is "
					"said once",
					name, key->line, key->column, field->name,
					places->files[j].name, value->line);
		}
	}
	return STATUS_OK;
}

static enum status add_bytes(struct message_file *document, const char *name, const char *bytes,
	size_t size, struct error *err)
{
	struct message_places *places = document->places;
	struct node_tree tree = {0};
	void *grown;

	places->total += size;
	if (places->total > MESSAGE_SIZE_MAX)
		return too_large(name, err);
	enum status status = yaml_read(name, bytes, size, &tree, err);
	if (status == STATUS_OK)
		status = check_once(places, &tree, name, err);
	if (status == STATUS_OK)
		status = mapping_read(&tree, name, document->message, err);
	grown = status == STATUS_OK
		? reallocarray(places->files, places->count + 1, sizeof(*places->files))
		: NULL;
	if (status == STATUS_OK && grown == NULL)
		status = out_of_memory(err);
	if (status != STATUS_OK) {
		node_tree_fini(&tree);
		return status;
	}
	places->files = grown;
	places->files[places->count] = (struct place_file){.name = strdup(name), .tree = tree};
	if (places->files[places->count++].name == NULL)
		return out_of_memory(err);
	return STATUS_OK;
}

static enum status add_fd(
	struct message_file *document, const char *name, int fd, struct error *err)
{
	char *bytes = NULL;
	size_t size = 0;
	enum status status = read_all(fd, name, &bytes, &size, err);

	if (status != STATUS_OK)
		return status;
	status = add_bytes(document, name, bytes, size, err);
	free(bytes);
	return status;
}

static enum status add_file(struct message_file *document, const char *path, struct error *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return error_errno(err, STATUS_INVALID_ARGUMENT, errno, "%.200s", path);
	enum status status = add_fd(document, path, fd, err);
	close(fd);
	return status;
}

static int is_part(const struct dirent *entry)
{
	const char *dot = strrchr(entry->d_name, '.');

	return entry->d_name[0] != '.' && dot != NULL &&
		(strcmp(dot, ".yaml") == 0 || strcmp(dot, ".yml") == 0 ||
			strcmp(dot, ".json") == 0);
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static enum status add_folder(struct message_file *document, const char *path, struct error *err)
{
	struct dirent **entries;
	int count = scandir(path, &entries, is_part, by_name);
	enum status status = STATUS_OK;

	if (count < 0)
		return error_errno(err, STATUS_INVALID_ARGUMENT, errno, "%.200s", path);
	if (count == 0)
		status = error_set(err, STATUS_INVALID_ARGUMENT,
			"%.200s: no *.yaml, *.yml or *.json in this folder", path);
	if (count > FILES_MAX)
		status = error_set(err, STATUS_INVALID_ARGUMENT, "%.200s: %d files, at most %d",
			path, count, FILES_MAX);
	for (int i = 0; i < count; i++) {
		char name[4096];
		snprintf(name, sizeof(name), "%s/%s", path, entries[i]->d_name);
		if (status == STATUS_OK)
			status = add_file(document, name, err);
		free(entries[i]);
	}
	free(entries);
	return status;
}

static struct message_file *file_new(const ProtobufCMessageDescriptor *type)
{
	struct message_file *document = calloc(1, sizeof(*document));

	if (document == NULL)
		return NULL;
	document->places = calloc(1, sizeof(*document->places));
	document->message = malloc(type->sizeof_message);
	if (document->message != NULL)
		protobuf_c_message_init(type, document->message);
	if (document->places == NULL || document->message == NULL) {
		message_file_free(document);
		return NULL;
	}
	document->places->type = type;
	return document;
}

static enum status give(
	struct message_file *document, enum status status, struct message_file **ret_document)
{
	if (status == STATUS_OK)
		*ret_document = document;
	else
		message_file_free(document);
	return status;
}

enum status message_read(const char *path, const ProtobufCMessageDescriptor *type,
	struct message_file **ret_document, struct error *err)
{
	struct message_file *document = file_new(type);
	struct stat file;

	if (document == NULL)
		return out_of_memory(err);
	if (strcmp(path, "-") == 0)
		return give(document, add_fd(document, "standard input", STDIN_FILENO, err),
			ret_document);
	if (stat(path, &file) == 0 && S_ISDIR(file.st_mode))
		return give(document, add_folder(document, path, err), ret_document);
	return give(document, add_file(document, path, err), ret_document);
}

enum status message_read_bytes(const char *name, const char *bytes, size_t size,
	const ProtobufCMessageDescriptor *type, struct message_file **ret_document,
	struct error *err)
{
	struct message_file *document = file_new(type);

	if (document == NULL)
		return out_of_memory(err);
	return give(document, add_bytes(document, name, bytes, size, err), ret_document);
}

/* ---- places ---- */

/* "protocol_rules[3]": the name, and the index if there is one; what follows. */
static const char *path_step(const char *at, char name[static 64], size_t *ret_index, bool *ret_has)
{
	size_t length = strcspn(at, ".[");

	if (length == 0 || length > 63)
		return NULL;
	memcpy(name, at, length);
	name[length] = '\0';
	at += length;
	*ret_has = *at == '[';
	if (*ret_has) {
		char *end;
		*ret_index = strtoul(at + 1, &end, 10);
		if (end == at + 1 || *end != ']')
			return NULL;
		at = end + 1;
	}
	return *at == '.' ? at + 1 : *at == '\0' ? at : NULL;
}

static size_t elements(const struct node *value)
{
	return value->kind == NODE_NULL ? 0 : value->kind == NODE_SEQUENCE ? value->count : 1;
}

static const struct node *element(
	const struct node_tree *tree, const struct node *value, size_t index)
{
	return value->kind == NODE_SEQUENCE ? node_child(tree, value, index) : value;
}

/* As deep as the rest of the path leads. */
static const struct node *descend(
	const struct node_tree *tree, const struct node *node, const char *at)
{
	char name[64];
	size_t index = 0;
	bool has;

	while (*at != '\0' && node->kind == NODE_MAPPING) {
		at = path_step(at, name, &index, &has);
		const struct node *value = at == NULL ? NULL : node_value(tree, node, name);
		if (value == NULL)
			return node;
		node = value;
		if (has && index >= elements(value))
			return node;
		if (has)
			node = element(tree, value, index);
	}
	return node;
}

bool message_place(const struct message_file *document, const char *path, char *text, size_t size)
{
	const struct message_places *places = document->places;
	char name[64];
	size_t index = 0, before = 0;
	bool has = false;
	const char *rest = path_step(path, name, &index, &has);

	if (rest == NULL)
		return false;
	for (size_t i = 0; i < places->count; i++) {
		const struct node_tree *tree = &places->files[i].tree;
		const struct node *root = node_root(tree), *value;
		if (root == NULL || root->kind != NODE_MAPPING ||
			(value = node_value(tree, root, name)) == NULL)
			continue;
		if (has && index - before >= elements(value)) {
			before += elements(value);
			continue;
		}
		const struct node *node = has ? element(tree, value, index - before) : value;
		node = descend(tree, node, rest);
		snprintf(text, size, "%s:%u:%u", places->files[i].name, node->line, node->column);
		return true;
	}
	return false;
}

void message_name_place(const struct message_file *document, struct error *err)
{
	char place[160], text[sizeof(err->text)];

	if (err->field[0] == '\0' || !message_place(document, err->field, place, sizeof(place)))
		return;
	if (strncmp(err->text, place, strlen(place)) == 0)
		return;
	if ((size_t)snprintf(text, sizeof(text), "%s: %s", place, err->text) >= sizeof(text))
		text[sizeof(text) - 1] = '\0';
	memcpy(err->text, text, sizeof(text));
}

const char *message_nearest_name(const char *const *names, size_t count, const char *word)
{
	const char *pair[3] = {NULL, NULL, NULL}, *best = NULL;

	for (size_t i = 0; i < count; i++) {
		pair[0] = names[i];
		pair[1] = best;
		best = nearest_word(word, pair);
	}
	return best;
}
