/* SPDX-License-Identifier: MulanPSL-2.0
 *
 * The state file: read anew whenever it was replaced, kept as the lines that it has. Both sides
 * replace it whole (rename), and hold <file>.lock while they go from the old one to the new one.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "double.h"

#define DEFAULT_PATH "/run/dcmi-double/state"
#define WAIT_NS (5 * 1000 * 1000)

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct stat known;
static bool exists;
static unsigned long generation, asked;
static char *text;
static char **lines;
static size_t line_count;

const char *state_path(void)
{
    const char *path = getenv("DCMI_DOUBLE");
    return path != NULL && *path != '\0' ? path : DEFAULT_PATH;
}

static void forget(void)
{
    free(text);
    free(lines);
    text = NULL;
    lines = NULL;
    line_count = 0;
}

static void split(void)
{
    size_t room = 1;
    for (const char *at = text; *at != '\0'; at++)
        room += *at == '\n';
    lines = calloc(room, sizeof(*lines));
    if (lines == NULL)
        return;
    char *rest = text;
    for (char *line = strsep(&rest, "\n"); line != NULL; line = strsep(&rest, "\n"))
        if (*line != '\0' && *line != '#')
            lines[line_count++] = line;
}

static char *read_whole(int file, size_t size)
{
    char *content = calloc(size + 1, 1);
    size_t got = 0;
    while (content != NULL && got < size) {
        ssize_t more = read(file, content + got, size - got);
        if (more <= 0)
            break;
        got += (size_t)more;
    }
    return content;
}

static bool is_same(const struct stat *a, const struct stat *b)
{
    return a->st_ino == b->st_ino && a->st_size == b->st_size &&
           a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

static void refresh(void)
{
    struct stat now;
    if (stat(state_path(), &now) != 0) {
        if (exists) {
            exists = false;
            generation++;
            forget();
        }
        return;
    }
    if (exists && is_same(&now, &known))
        return;
    int file = open(state_path(), O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return;
    if (fstat(file, &now) == 0) {
        forget();
        text = read_whole(file, (size_t)now.st_size);
        if (text != NULL)
            split();
        known = now;
        exists = true;
        generation++;
    }
    close(file);
}

void state_lock(void)
{
    pthread_mutex_lock(&lock);
    refresh();
}

void state_unlock(void)
{
    pthread_mutex_unlock(&lock);
}

void state_wait(void)
{
    struct timespec moment = {0, WAIT_NS};
    state_unlock();
    nanosleep(&moment, NULL);
    state_lock();
}

bool state_exists(void)
{
    return exists;
}

bool state_changed(void)
{
    bool changed = asked != generation;
    asked = generation;
    return changed;
}

const char *state_find(const char *key, int index)
{
    size_t length = strlen(key);
    for (size_t n = 0; n < line_count; n++) {
        const char *line = lines[n];
        if (strncmp(line, key, length) != 0 || (line[length] != ' ' && line[length] != '\0'))
            continue;
        if (index-- == 0)
            return line[length] == ' ' ? line + length + 1 : "";
    }
    return NULL;
}

long state_number(const char *key, long otherwise)
{
    const char *value = state_find(key, 0);
    return value != NULL ? strtol(value, NULL, 0) : otherwise;
}

const char *state_chip(const struct chip *chip, const char *key, int index)
{
    char whole[MAX_NAME];
    snprintf(whole, sizeof(whole), "chip %d.%d %s", chip->card, chip->device, key);
    return state_find(whole, index);
}

long state_chip_number(const struct chip *chip, const char *key, long otherwise)
{
    const char *value = state_chip(chip, key, 0);
    return value != NULL ? strtol(value, NULL, 0) : otherwise;
}

bool state_has_word(const char *line, const char *word)
{
    size_t length = strlen(word);
    while (line != NULL && *line != '\0') {
        size_t have = strcspn(line, " ");
        if (have == length && strncmp(line, word, length) == 0)
            return true;
        line += have + strspn(line + have, " ");
    }
    return false;
}

/* The kernel's own time is the same for some milliseconds, and inode numbers come back. */
static void set_exact_time(int file)
{
    struct timespec times[2];
    clock_gettime(CLOCK_REALTIME, &times[0]);
    times[1] = times[0];
    futimens(file, times);
}

static int write_whole(const char *path, keep_line keep, const void *context, const char *added)
{
    FILE *file = fopen(path, "we");
    if (file == NULL)
        return -errno;
    for (size_t n = 0; n < line_count; n++)
        if (keep(lines[n], context))
            fprintf(file, "%s\n", lines[n]);
    fputs(added, file);
    fflush(file);
    set_exact_time(fileno(file));
    return fclose(file) == 0 ? 0 : -errno;
}

int state_rewrite(keep_line keep, const void *context, const char *added)
{
    char path[4096], partial[4200];
    snprintf(path, sizeof(path), "%s.lock", state_path());
    snprintf(partial, sizeof(partial), "%s.%d", state_path(), (int)getpid());
    int file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (file < 0)
        return -errno;
    int failed = flock(file, LOCK_EX);
    refresh();
    if (failed == 0)
        failed = write_whole(partial, keep, context, added);
    if (failed == 0)
        failed = rename(partial, state_path());
    refresh();
    close(file);
    return failed;
}
