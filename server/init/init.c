#include "server/init/init.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/file.h"
#include "common/loop.h"
#include "proto/rpc/rpc.h"
#include "server/auth/token.h"
#include "server/config.h"
#include "server/init/certificate.h"
#include "server/store/record.h"
#include "server/store/store.h"

#define NAMES_MAX 32
#define PATH_SIZE 4096

static const char *const files[] = {"posternd.conf", "ca.pem", "ca-key.pem", "server.pem",
	"server-key.pem", "postern.db", "postern.db-wal", "postern.db-shm", "postern.db.lock",
	"admin.token"};

static enum status path_of(
	const char *dir, const char *name, char path[static PATH_SIZE], struct error *err)
{
	if ((size_t)snprintf(path, PATH_SIZE, "%s/%s", dir, name) < PATH_SIZE)
		return STATUS_OK;
	return error_set(err, STATUS_INVALID_ARGUMENT, "%s: the path is too long", dir);
}

static enum status write_file(
	const char *dir, const char *name, const char *text, mode_t mode, struct error *err)
{
	char path[PATH_SIZE];
	enum status status = path_of(dir, name, path, err);
	return status ? status : file_write(path, text, strlen(text), mode, 0, err);
}

static enum status write_certificates(const struct init_options *options, struct error *err)
{
	struct certificate_pair ca, server;
	const char *names[NAMES_MAX] = {"localhost", "127.0.0.1", "::1"};
	size_t count = 3;
	char host[256] = "";
	if (gethostname(host, sizeof host - 1) == 0 && host[0])
		names[count++] = host;
	for (size_t i = 0; i < options->name_count; i++) {
		if (count == NAMES_MAX)
			return error_set(err, STATUS_INVALID_ARGUMENT, "--name: at most %zu",
				(size_t)NAMES_MAX - 4);
		names[count++] = options->names[i];
	}
	enum status status = certificate_make_ca(&ca, err);
	if (!status)
		status = certificate_make_server(&ca, names, count, &server, err);
	if (!status)
		status = write_file(options->dir, "ca.pem", ca.cert, 0644, err);
	if (!status)
		status = write_file(options->dir, "ca-key.pem", ca.key, 0600, err);
	if (!status)
		status = write_file(options->dir, "server.pem", server.cert, 0644, err);
	if (!status)
		status = write_file(options->dir, "server-key.pem", server.key, 0600, err);
	certificate_wipe(&ca);
	certificate_wipe(&server);
	return status;
}

/* A wrong --listen is told now, not when the server starts. */
static enum status check_config(const char *dir, struct error *err)
{
	struct server_config config;
	char path[PATH_SIZE];
	enum status status = path_of(dir, "posternd.conf", path, err);
	if (!status)
		status = server_config_read(path, &config, err);
	if (!status)
		server_config_fini(&config);
	return status;
}

static enum status check_listen(const struct init_options *options, struct error *err)
{
	static const char *const schemes[] = {"ipc:///", "tls+tcp://", "tcp://"};
	for (size_t i = 0; i < options->listen_count; i++) {
		bool known = false;
		for (size_t j = 0; j < sizeof schemes / sizeof *schemes; j++)
			known |= strncmp(options->listen[i], schemes[j], strlen(schemes[j])) == 0;
		if (!known || strpbrk(options->listen[i], "\r\n#"))
			return error_set(err, STATUS_INVALID_ARGUMENT,
				"--listen \"%.100s\": give ipc:///PATH, tls+tcp://HOST:PORT, or "
				"tcp://HOST:PORT on loopback",
				options->listen[i]);
	}
	return STATUS_OK;
}

static enum status write_config(const struct init_options *options, struct error *err)
{
	char *text = NULL;
	size_t size = 0;
	enum status status = check_listen(options, err);
	if (status)
		return status;
	FILE *out = open_memstream(&text, &size);
	if (!out)
		return error_set(err, STATUS_RESOURCE_EXHAUSTED, "out of memory");
	fputs("# posternd's configuration: see posternd.conf(5). Written by `posternd init`.\n\n",
		out);
	for (size_t i = 0; i < options->listen_count; i++)
		fprintf(out, "listen = %s\n", options->listen[i]);
	if (options->listen_count == 0) {
		char *absolute = realpath(options->dir, NULL);
		fprintf(out, "listen = ipc://%s/posternd.sock\n",
			absolute ? absolute : options->dir);
		fputs("listen = tls+tcp://0.0.0.0:7411\nlisten = tls+tcp://[::]:7411\n", out);
		free(absolute);
	}
	fputs("\n", out);
	config_write_template(server_options, out);
	fclose(out);
	status = text ? write_file(options->dir, "posternd.conf", text, 0644, err)
		      : error_set(err, STATUS_RESOURCE_EXHAUSTED, "out of memory");
	free(text);
	return status ? status : check_config(options->dir, err);
}

struct outcome {
	struct error err;
	bool done;
};

static void committed(void *arg, uint64_t sequence, const struct error *err)
{
	struct outcome *outcome = arg;
	(void)sequence;
	outcome->err = *err;
	outcome->done = true;
}

/* The administrator is the first principal; the journal's first entry says so. */
static enum status add_administrator(const char *database, const char *token, struct error *err)
{
	struct loop *loop = NULL;
	struct store *store = NULL;
	struct outcome outcome = {0};
	struct principal_record admin = {
		.name = "admin", .role = RPC_ROLE_ADMIN, .added_us = clock_real_us()};
	struct entry entry = {
		.time_us = admin.added_us, .kind = ENTRY_PRINCIPAL_ADDED, .detail = "admin admin"};
	enum status status = loop_new(&loop, err);
	token_hash(token, admin.token_hash);
	if (!status)
		status = store_open(database, loop, &store, err);
	struct store_txn *txn = status ? NULL : store_txn_new(store);
	if (txn) {
		store_txn_entry(txn, &entry);
		store_txn_put_principal(txn, &admin);
		store_submit(store, txn, committed, &outcome);
		while (!outcome.done)
			loop_step(loop, -1);
		if (outcome.err.status) {
			*err = outcome.err;
			status = outcome.err.status;
		}
	} else if (!status) {
		status = error_set(err, STATUS_RESOURCE_EXHAUSTED, "out of memory");
	}
	store_close(store);
	loop_free(loop);
	return status;
}

static enum status write_database(const struct init_options *options, struct error *err)
{
	char path[PATH_SIZE], token[TOKEN_TEXT_SIZE + 1];
	enum status status = path_of(options->dir, "postern.db", path, err);
	if (!status)
		status = store_create(path, err);
	if (status)
		return status;
	token_new("admin", token);
	status = add_administrator(path, token, err);
	if (!status) {
		size_t length = strlen(token);
		token[length] = '\n';
		token[length + 1] = '\0';
		status = write_file(options->dir, "admin.token", token, 0600, err);
	}
	token_wipe(token);
	return status;
}

static enum status check_free(const char *dir, struct error *err)
{
	for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
		char path[PATH_SIZE];
		enum status status = path_of(dir, files[i], path, err);
		if (status)
			return status;
		if (access(path, F_OK) == 0)
			return error_set(err, STATUS_ALREADY_EXISTS,
				"%s exists: nothing was changed: give an empty folder", path);
	}
	return STATUS_OK;
}

static void remove_all(const char *dir, bool made)
{
	for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
		char path[PATH_SIZE];
		if (path_of(dir, files[i], path, NULL) == STATUS_OK)
			unlink(path);
	}
	if (made)
		rmdir(dir);
}

enum status init_run(const struct init_options *options, struct error *err)
{
	bool made = mkdir(options->dir, 0700) == 0;
	if (!made && errno != EEXIST)
		return error_errno(
			err, STATUS_UNAVAILABLE, errno, "%s: cannot make the folder", options->dir);
	enum status status = check_free(options->dir, err);
	if (status)
		return status;
	status = write_certificates(options, err);
	if (!status)
		status = write_config(options, err);
	if (!status)
		status = write_database(options, err);
	if (status)
		remove_all(options->dir, made);
	return status;
}
