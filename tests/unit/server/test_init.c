/* `posternd init`: a whole server or nothing, secrets that only their owner reads, certificates
 * that strict clients accept. */
#include "tests/unit/server/store_fixture.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "common/file.h"
#include "proto/rpc/rpc.h"
#include "server/auth/token.h"
#include "server/config.h"
#include "server/init/init.h"

extern char **environ;

static char parent[64], dir[80];

static void make_parent(void)
{
	snprintf(parent, sizeof parent, "/tmp/postern-init-XXXXXX");
	cr_assert_not_null(mkdtemp(parent));
	snprintf(dir, sizeof dir, "%s/etc", parent);
}

static size_t each_file(const char *folder, bool remove)
{
	size_t count = 0;
	DIR *open = opendir(folder);
	for (struct dirent *file = open ? readdir(open) : NULL; file; file = readdir(open)) {
		if (strcmp(file->d_name, ".") == 0 || strcmp(file->d_name, "..") == 0)
			continue;
		count++;
		if (remove)
			unlinkat(dirfd(open), file->d_name, 0);
	}
	if (open)
		closedir(open);
	return count;
}

static void remove_parent(void)
{
	each_file(dir, true);
	rmdir(dir);
	cr_expect_eq(rmdir(parent), 0, "something was left behind");
}

static const char *path_of(const char *name)
{
	static char path[160];
	snprintf(path, sizeof path, "%s/%s", dir, name);
	return path;
}

static enum status run(const char *const *names, size_t count, struct error *err)
{
	struct init_options options = {.dir = dir, .names = names, .name_count = count};
	memset(err, 0, sizeof *err);
	return init_run(&options, err);
}

static void expect_mode(const char *name, mode_t mode)
{
	struct stat st;
	cr_assert_eq(stat(path_of(name), &st), 0, "%s", name);
	cr_expect_eq(st.st_mode & 07777, mode, "%s: %o", name, st.st_mode & 07777);
}

Test(init, makes_everything_with_the_right_modes, .init = make_parent, .fini = remove_parent)
{
	static const struct {
		const char *name;
		mode_t mode;
	} files[] = {{"posternd.conf", 0644}, {"ca.pem", 0644}, {"ca-key.pem", 0600},
		{"server.pem", 0644}, {"server-key.pem", 0600}, {"postern.db", 0600},
		{"admin.token", 0600}};
	struct server_config config;
	struct error err;
	umask(0);
	cr_assert_eq(run(NULL, 0, &err), STATUS_OK, "%s", err.text);
	for (size_t i = 0; i < sizeof files / sizeof *files; i++)
		expect_mode(files[i].name, files[i].mode);
	expect_mode("", 0700);
	cr_assert_eq(server_config_read(path_of("posternd.conf"), &config, &err), STATUS_OK, "%s",
		err.text);
	cr_assert_eq(config.listen.count, 3);
	cr_expect_eq(
		strncmp(config.listen.items[0], "ipc:///", 7), 0, "%s", config.listen.items[0]);
	cr_expect_str_eq(config.listen.items[1], "tls+tcp://0.0.0.0:7411");
	cr_expect_str_eq(config.listen.items[2], "tls+tcp://[::]:7411");
	cr_expect_str_eq(config.database, path_of("postern.db"));
	cr_expect_eq(access(config.tls_cert_file, R_OK), 0);
	server_config_fini(&config);
}

static void on_principal(void *arg, const struct principal_record *record)
{
	struct principal_record *principal = arg;
	cr_expect_eq(principal->name[0], '\0', "more than one principal");
	*principal = *record;
}

Test(init, the_administrator_is_in_database_and_journal, .init = make_parent, .fini = remove_parent)
{
	struct fixture fixture = {0};
	struct principal_record admin = {0};
	struct store_visitor visitor = {.arg = &admin, .principal = on_principal};
	uint8_t hash[TOKEN_HASH_SIZE];
	char *token = NULL;
	struct error err;
	cr_assert_eq(run(NULL, 0, &err), STATUS_OK, "%s", err.text);
	cr_assert_eq(
		file_read_secret(path_of("admin.token"), &token, &err), STATUS_OK, "%s", err.text);
	cr_expect_eq(strncmp(token, "pst_admin_", 10), 0);
	cr_expect_eq(strlen(token), 53);
	token_hash(token, hash);
	file_free_secret(token);
	cr_assert_eq(loop_new(&fixture.loop, &err), STATUS_OK);
	snprintf(fixture.path, sizeof fixture.path, "%s", path_of("postern.db"));
	fixture_open(&fixture);
	cr_assert_eq(store_load(fixture.store, &visitor, &err), STATUS_OK);
	cr_expect_str_eq(admin.name, "admin");
	cr_expect_eq(admin.role, RPC_ROLE_ADMIN);
	cr_expect_eq(memcmp(admin.token_hash, hash, sizeof hash), 0);
	struct store_verification result = fixture_verify(&fixture, 0, NULL);
	cr_expect(result.intact, "%s", result.fault);
	cr_expect_eq(result.entries, 1);
	store_close(fixture.store);
	loop_free(fixture.loop);
}

static char *read_whole(const char *name)
{
	char *text = NULL;
	size_t size;
	struct error err;
	cr_assert_eq(
		file_read(path_of(name), 1 << 20, &text, &size, &err), STATUS_OK, "%s", err.text);
	return text;
}

Test(init, twice_is_refused_and_changes_nothing, .init = make_parent, .fini = remove_parent)
{
	struct error err;
	cr_assert_eq(run(NULL, 0, &err), STATUS_OK, "%s", err.text);
	char *token = read_whole("admin.token"), *key = read_whole("ca-key.pem");
	size_t count = each_file(dir, false);
	cr_expect_eq(run(NULL, 0, &err), STATUS_ALREADY_EXISTS);
	cr_expect_not_null(strstr(err.text, dir), "%s", err.text);
	char *token_now = read_whole("admin.token"), *key_now = read_whole("ca-key.pem");
	cr_expect_str_eq(token, token_now);
	cr_expect_str_eq(key, key_now);
	cr_expect_eq(each_file(dir, false), count);
	free(token);
	free(key);
	free(token_now);
	free(key_now);
}

Test(init, a_failure_half_way_leaves_nothing_behind, .init = make_parent, .fini = remove_parent)
{
	struct error err;
	struct rlimit limit = {.rlim_cur = 0, .rlim_max = RLIM_INFINITY};
	signal(SIGXFSZ, SIG_IGN);
	/* Files fail at a few sizes: the certificates, the configuration, the database. */
	for (limit.rlim_cur = 0; limit.rlim_cur < 120000;
		limit.rlim_cur += limit.rlim_cur < 4000 ? 500 : 8192) {
		cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
		if (run(NULL, 0, &err) == STATUS_OK)
			break;
		cr_expect_gt(strlen(err.text), 10);
		cr_expect_neq(access(dir, F_OK), 0, "limit %lu: %s: the folder is still there",
			(unsigned long)limit.rlim_cur, err.text);
	}
	limit.rlim_cur = RLIM_INFINITY;
	cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
	each_file(dir, true);
	cr_assert_eq(mkdir(dir, 0755) == 0 || access(dir, F_OK) == 0, 1);
	int fd = open(path_of("mine"), O_CREAT | O_WRONLY, 0600);
	close(fd);
	const char *bad[] = {"no spaces please"};
	cr_expect_eq(run(bad, 1, &err), STATUS_INVALID_ARGUMENT);
	cr_expect_not_null(strstr(err.text, "no spaces please"), "%s", err.text);
	cr_expect_eq(
		access(path_of("mine"), F_OK), 0, "a folder that was there keeps what was in it");
	cr_expect_eq(each_file(dir, false), 1);
}

Test(init, a_wrong_listen_url_is_told_at_once, .init = make_parent, .fini = remove_parent)
{
	const char *listen[] = {"no-url"};
	struct init_options options = {.dir = dir, .listen = listen, .listen_count = 1};
	struct error err = {0};
	cr_expect_neq(init_run(&options, &err), STATUS_OK);
	cr_expect_not_null(strstr(err.text, "no-url"), "%s", err.text);
	cr_expect_neq(access(dir, F_OK), 0);
}

/* ---- certificates, judged by another implementation ---- */

static int openssl(const char *const *argv)
{
	pid_t pid;
	int status;
	posix_spawn_file_actions_t quiet;
	posix_spawn_file_actions_init(&quiet);
	posix_spawn_file_actions_addopen(&quiet, 1, "/dev/null", O_WRONLY, 0);
	posix_spawn_file_actions_addopen(&quiet, 2, "/dev/null", O_WRONLY, 0);
	int rc = posix_spawnp(
		&pid, "openssl", &quiet, NULL, (char *const *)(uintptr_t)argv, environ);
	posix_spawn_file_actions_destroy(&quiet);
	if (rc != 0)
		return 127;
	return waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status) : 126;
}

static int verify(const char *kind, const char *name)
{
	char ca[160], server[160];
	snprintf(ca, sizeof ca, "%s", path_of("ca.pem"));
	snprintf(server, sizeof server, "%s", path_of("server.pem"));
	const char *argv[] = {"openssl", "verify", "-x509_strict", "-purpose", "sslserver",
		"-CAfile", ca, kind, name, server, NULL};
	return openssl(argv);
}

Test(init, certificates_satisfy_a_strict_verifier, .init = make_parent, .fini = remove_parent)
{
	const char *names[] = {
		"policy.example", "10.77.0.1", "fd77::1", "policy.example", "localhost"};
	struct error err;
	const char *version[] = {"openssl", "version", NULL};
	if (openssl(version) != 0)
		cr_skip_test("openssl is not here");
	cr_assert_eq(run(names, 5, &err), STATUS_OK, "%s", err.text);
	cr_expect_eq(verify("-verify_hostname", "localhost"), 0);
	cr_expect_eq(verify("-verify_hostname", "policy.example"), 0);
	cr_expect_eq(verify("-verify_ip", "127.0.0.1"), 0);
	cr_expect_eq(verify("-verify_ip", "::1"), 0);
	cr_expect_eq(verify("-verify_ip", "10.77.0.1"), 0);
	cr_expect_eq(verify("-verify_ip", "fd77::1"), 0);
	cr_expect_neq(verify("-verify_hostname", "elsewhere.example"), 0);
	cr_expect_neq(verify("-verify_ip", "10.77.0.2"), 0);
}

Test(init, too_many_or_too_long_names_are_refused, .init = make_parent, .fini = remove_parent)
{
	char texts[40][16], longest[300];
	const char *names[40];
	struct error err;
	for (int i = 0; i < 40; i++) {
		snprintf(texts[i], sizeof texts[i], "host%d", i);
		names[i] = texts[i];
	}
	cr_expect_eq(run(names, 40, &err), STATUS_INVALID_ARGUMENT);
	memset(longest, 'a', sizeof longest);
	longest[sizeof longest - 1] = '\0';
	names[0] = longest;
	cr_expect_eq(run(names, 1, &err), STATUS_INVALID_ARGUMENT);
	cr_expect_neq(access(dir, F_OK), 0);
}

/* ---- tokens ---- */

Test(token, is_what_the_design_says_and_never_twice_the_same)
{
	char a[TOKEN_TEXT_SIZE], b[TOKEN_TEXT_SIZE];
	uint8_t hash[TOKEN_HASH_SIZE], again[TOKEN_HASH_SIZE];
	token_new("auditor", a);
	token_new("auditor", b);
	cr_expect_eq(strncmp(a, "pst_auditor_", 12), 0, "%s", a);
	cr_expect_eq(strlen(a), 12 + 43);
	cr_expect_eq(
		strspn(a + 12, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"),
		43);
	cr_expect_str_neq(a, b);
	token_hash(a, hash);
	token_hash(a, again);
	cr_expect_eq(memcmp(hash, again, sizeof hash), 0);
	token_hash(b, again);
	cr_expect_neq(memcmp(hash, again, sizeof hash), 0);
	token_wipe(a);
	for (size_t i = 0; i < sizeof a; i++)
		cr_expect_eq(a[i], 0);
}
