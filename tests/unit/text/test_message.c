#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/text/message.h"
#include "postern/v1/document.pb-c.h"

static const ProtobufCMessageDescriptor *const type = &postern__v1__policy_document__descriptor;

static struct message_file *read_text(const char *text, struct error *err)
{
	struct message_file *file = NULL;
	(void)message_read_bytes("p.yaml", text, strlen(text), type, &file, err);
	return file;
}

/* ---- refusals: where, and what ---- */

struct refusal {
	const char *text, *begins, *has;
};

static const struct refusal refusals[] = {
	{"rules: []\n", "p.yaml:1:1: ", "unknown key \"rules\""},
	{"protocol_rulez: []\n", "p.yaml:1:1: ", "did you mean \"protocol_rules\"?"},
	{"protocol_rules:\n- name: a\n  action: alow\n",
		"p.yaml:3:11: protocol_rules[0].action: ", "did you mean \"allow\"?"},
	{"protocol_rules:\n- name: a\n  disabled: yes\n",
		"p.yaml:3:13: ", "expected true or false, found \"yes\""},
	{"protocol_rules:\n- name: a\n  disabled: \"true\"\n",
		"p.yaml:3:13: ", "expected true or false"},
	{"protocol_rules: {name: a}\n", NULL, NULL},
	{"protocol_rules: a\n",
		"p.yaml:1:17: protocol_rules[0]: ", "expected a mapping, found \"a\""},
	{"protocol_rules: [{name: [a]}]\n", "p.yaml:1:25: ", "expected text, found a sequence"},
	{"protocol_rules: [{name: {a: b}}]\n", "p.yaml:1:25: ", "expected text, found a mapping"},
	{"filters: [{max_grants: -1}]\n", "p.yaml:1:24: filters[0].max_grants: ", "from 0 to"},
	{"filters: [{max_grants: 1e3}]\n", "p.yaml:1:24: ", "found \"1e3\""},
	{"filters: [{max_grants: '5'}]\n", "p.yaml:1:24: ", "found \"5\""},
	{"filters: [{max_grants: 18446744073709551616}]\n",
		"p.yaml:1:24: ", "to 18446744073709551615"},
	{"protocols: [{max_ports: 4294967296}]\n", "p.yaml:1:25: ", "to 4294967295"},
	{"a: b\na: c\n", "p.yaml:1:1: ", "unknown key"},
	{"on_change: cut\non_change: keep\n", "p.yaml:2:1: ", "twice: first in line 1"},
	{"on_change: [cut]\n", "p.yaml:1:12: on_change: ", "found a sequence"},
	{"client_sets:\n- &a {name: x}\n", "p.yaml:2:3: ", "anchors"},
	{"client_sets: [*a]\n", "p.yaml:1:15: ", "alias"},
	{"client_sets: []\n---\nclient_sets: []\n", "p.yaml:2:1: ", "second document"},
	{"client_sets: [\n", "p.yaml:2:1: ", ""},
	{"\tclient_sets: []\n", "p.yaml:1:1: ", "tabs"},
	{"client_sets: !!python/object []\n", "p.yaml:1:14: ", "tag"},
	{"client_sets: \"\xff\"\n", "p.yaml:1:15: ", "UTF-8"},
	{"client_sets: [{name: \"a\\0b\"}]\n", "p.yaml:1:22: ", "NUL"},
	{"- a\n", "p.yaml:1:1: ", "a mapping of keys"},
	{"just text\n", "p.yaml:1:1: ", "a mapping of keys"},
};

Test(message, refusals)
{
	for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++) {
		const struct refusal *refusal = &refusals[i];
		struct error err = {0};
		struct message_file *file = read_text(refusal->text, &err);
		cr_expect_eq(
			file != NULL, refusal->begins == NULL, "%s: %s", refusal->text, err.text);
		if (refusal->begins) {
			cr_expect(strncmp(err.text, refusal->begins, strlen(refusal->begins)) == 0,
				"%s: %s, not %s", refusal->text, err.text, refusal->begins);
			cr_expect(
				strstr(err.text, refusal->has), "%s: %s", refusal->text, err.text);
		}
		message_file_free(file);
	}
}

Test(message, deep_nesting_is_refused)
{
	char text[400] = "client_sets: ";
	struct error err = {0};
	memset(text + 13, '[', 300);
	cr_expect_null(read_text(text, &err));
	cr_expect(strstr(err.text, "levels"), "%s", err.text);
}

/* ---- there and back ---- */

static char *packed(const ProtobufCMessage *message, size_t *ret_size)
{
	*ret_size = protobuf_c_message_get_packed_size(message);
	char *bytes = malloc(*ret_size + 1);
	protobuf_c_message_pack(message, (uint8_t *)bytes);
	return bytes;
}

static char *written(const ProtobufCMessage *message)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);
	cr_assert(message_write_yaml(out, message));
	fclose(out);
	return text;
}

static void expect_same(const ProtobufCMessage *a, const ProtobufCMessage *b, const char *text)
{
	size_t a_size, b_size;
	char *a_bytes = packed(a, &a_size), *b_bytes = packed(b, &b_size);
	cr_expect(a_size == b_size && memcmp(a_bytes, b_bytes, a_size) == 0, "%s", text);
	free(a_bytes);
	free(b_bytes);
}

static void there_and_back(const ProtobufCMessage *message)
{
	struct error err = {0};
	char *text = written(message);
	struct message_file *file = read_text(text, &err);
	cr_assert(file, "%s: %s", err.text, text);
	expect_same(message, file->message, text);
	message_file_free(file);
	free(text);
}

Test(message, awkward_texts_come_back_as_they_were)
{
	static const char *const texts[] = {"null", "~", "Null", "yes", "true", "1e3", "0x10",
		"- x", ": y", "# z", "a: b", "a #b", " blank", "blank ", "two\nlines", "\n",
		"'quote'", "\"double\"", "back\\slash", "&anchor", "*alias", "!tag", "%percent",
		"@at", "`tick", "{a}", "[b]", "a, b", "Grüße, 世界", "\xf0\x9f\x9a\xaa",
		"tab\there", "2026-12-31", "=", "<<", "?", "|", ">", "...", "---"};
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
		Postern__V1__PolicyDocument document = POSTERN__V1__POLICY_DOCUMENT__INIT;
		Postern__V1__UserSet set = POSTERN__V1__USER_SET__INIT, *sets[] = {&set};
		char *text = (char *)(uintptr_t)texts[i], *users[] = {text, "", text};
		document.user_sets = sets;
		document.n_user_sets = 1;
		set.name = set.description = text;
		set.users = users;
		set.n_users = 3;
		there_and_back(&document.base);
	}
}

Test(message, every_kind_of_field_comes_back)
{
	struct error err = {0};
	struct message_file *file = read_text(
		"on_change: keep\n"
		"protocols: [{name: sip, transport: udp, primary_ports: [5060, 5061], "
		"remote_scope: peer-network,\n"
		"  low_ports: true, max_ports: 1024, secondary_ports: 1024-65535}]\n"
		"filters: [{filter: a, max_grants: 18446744073709551615, max_lifetime: 5m}]\n"
		"tests: [{client: 10.0.0.1, to: '10.0.0.2:21', expect: deny}]\n",
		&err);
	cr_assert(file, "%s", err.text);
	const Postern__V1__PolicyDocument *document = (void *)file->message;
	cr_expect_eq(document->on_change, POSTERN__V1__ON_CHANGE__ON_CHANGE_KEEP);
	cr_expect_eq(
		document->protocols[0]->n_secondary_ports, 1, "one scalar is a sequence of one");
	cr_expect_eq(document->filters[0]->max_grants, UINT64_MAX);
	there_and_back(file->message);
	message_file_free(file);
}

Test(message, json_is_yaml)
{
	struct error err = {0};
	struct message_file *file =
		read_text("{\n\t\"client_sets\": [{\"name\": \"a\\u00e9\\/b\", \"addresses\": "
			  "[\"10.0.0.1\"]}],\n\t\"on_change\": \"cut\"\n}\n",
			&err);
	cr_assert(file, "%s", err.text);
	const Postern__V1__PolicyDocument *document = (void *)file->message;
	cr_expect_str_eq(document->client_sets[0]->name, "a\xc3\xa9/b");
	message_file_free(file);
}

/* ---- folders and places ---- */

static char folder[] = "/tmp/postern-message-XXXXXX";

static void put(const char *name, const char *text)
{
	char path[200];
	snprintf(path, sizeof path, "%s/%s", folder, name);
	FILE *file = fopen(path, "w");
	fputs(text, file);
	fclose(file);
}

static void drop(const char *name)
{
	char path[200];
	snprintf(path, sizeof path, "%s/%s", folder, name);
	unlink(path);
}

Test(message, a_folder_is_one_message_and_places_are_its_files)
{
	struct message_file *file = NULL;
	struct error err = {0};
	char place[300], expected[300];
	cr_assert(mkdtemp(folder));
	put("10-a.yaml", "client_sets:\n- name: a\n- name: b\n");
	put("20-b.json",
		"{\"client_sets\": [{\"name\": \"c\", \"addresses\": "
		"[\"1.1.1.1\",\n\"2.2.2.2\"]}]}");
	put("30-c.yml", "on_change: cut\n");
	put("ignored.txt", "nonsense: [");
	cr_assert_eq(message_read(folder, type, &file, &err), STATUS_OK, "%s", err.text);
	cr_expect_eq(((Postern__V1__PolicyDocument *)file->message)->n_client_sets, 3);
	cr_assert(message_place(file, "client_sets[1].name", place, sizeof place));
	snprintf(expected, sizeof expected, "%s/10-a.yaml:3:9", folder);
	cr_expect_str_eq(place, expected);
	cr_assert(message_place(file, "client_sets[2].addresses[1]", place, sizeof place));
	snprintf(expected, sizeof expected, "%s/20-b.json:2:1", folder);
	cr_expect_str_eq(place, expected);
	cr_assert(message_place(file, "client_sets[2].feeds[0]", place, sizeof place),
		"the nearest above");
	cr_expect(strstr(place, "20-b.json:1:"), "%s", place);
	cr_expect_not(message_place(file, "client_sets[9]", place, sizeof place));
	cr_expect_not(message_place(file, "tests[0]", place, sizeof place));
	error_field(&err, "on_change", "on_change: no");
	message_name_place(file, &err);
	message_name_place(file, &err);
	cr_expect(strstr(err.text, "30-c.yml:1:12: on_change: no"), "%s", err.text);
	message_file_free(file);
	put("40-d.yaml", "on_change: keep\n");
	cr_expect_neq(message_read(folder, type, &file, &err), STATUS_OK);
	cr_expect(strstr(err.text, "40-d.yaml:1:1") && strstr(err.text, "30-c.yml:1"), "%s",
		err.text);
	for (const char *const *name = (const char *const[]){"10-a.yaml", "20-b.json", "30-c.yml",
		     "40-d.yaml", NULL};
		*name; name++)
		drop(*name);
	cr_expect_neq(message_read(folder, type, &file, &err), STATUS_OK, "nothing to read");
	drop("ignored.txt");
	rmdir(folder);
}

/* ---- differences ---- */

static void on_change(void *arg, enum message_change change, const char *path, const char *before,
	const char *after)
{
	static const char marks[] = "+-~";
	char *told = arg;
	snprintf(told + strlen(told), 2000 - strlen(told), "%c%s|%s|%s\n", marks[change], path,
		before ? before : "", after ? after : "");
}

static void expect_diff(const char *before, const char *after, const char *expected)
{
	struct error err = {0};
	struct message_file *old = read_text(before, &err), *new = read_text(after, &err);
	char told[2000] = "";
	cr_assert(message_diff(old->message, new->message, on_change, told));
	cr_expect_str_eq(told, expected);
	message_file_free(old);
	message_file_free(new);
}

Test(message, differences)
{
	expect_diff("{}", "{}", "");
	expect_diff("on_change: cut", "on_change: keep", "~on_change|cut|keep\n");
	expect_diff("{}", "on_change: keep", "+on_change||keep\n");
	expect_diff("user_sets: [{name: a}, {name: b}]", "user_sets: [{name: b}, {name: a}]", "");
	expect_diff("user_sets: [{name: a, users: [x]}]", "user_sets: [{name: a, users: [x, y]}]",
		"~user_sets \"a\": users|[x]|[x, y]\n");
	expect_diff("user_sets: [{name: a}]", "user_sets: [{name: b}]",
		"-user_sets \"a\"|name: a|\n+user_sets \"b\"||name: b\n");
	expect_diff("filters: [{filter: i, max_grants: 1}]", "filters: [{filter: i}]",
		"-filters \"i\": max_grants|1|\n");
}

Test(message, nearest_names)
{
	static const char *const names[] = {"staff", "guests", "servers"};
	cr_expect_str_eq(message_nearest_name(names, 3, "staf"), "staff");
	cr_expect_str_eq(message_nearest_name(names, 3, "gusets"), "guests");
	cr_expect_null(message_nearest_name(names, 3, "zzz"));
	cr_expect_null(message_nearest_name(names, 0, "staff"));
}
