/* The floors under every scheduler, and the job that all of them run. One static program:
 *   floor idle                     sleeps in epoll_wait for ever
 *   floor stamp FILE               appends CLOCK_REALTIME at entry, 8 bytes
 *   floor event FILE               appends how long ago `"at":NANOS` of $FIRELINK_EVENT was, 8 bytes
 *   floor spawn N P fork|posix CMD ARG   starts N children, P at once; prints children a second
 *   floor timer N MS FILE          timerfd, epoll, posix_spawn of `stamp`: N times */
#define _GNU_SOURCE
#include <fcntl.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static int64_t nanos(clockid_t clock) {
  struct timespec t;
  clock_gettime(clock, &t);
  return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static int stamp(const char *path) {
  int64_t now = nanos(CLOCK_REALTIME);
  int fd = open(path, O_WRONLY | O_APPEND | O_CREAT, 0644);
  return fd < 0 || write(fd, &now, 8) != 8;
}

static int event(const char *path) {
  const char *text = getenv("FIRELINK_EVENT"), *at = text ? strstr(text, "\"at\":") : NULL;
  int64_t late = at ? nanos(CLOCK_REALTIME) - atoll(at + 5) : -1;
  int fd = open(path, O_WRONLY | O_APPEND | O_CREAT, 0644);
  return fd < 0 || write(fd, &late, 8) != 8;
}

static int idle(void) {
  struct epoll_event event;
  return epoll_wait(epoll_create1(0), &event, 1, -1);
}

static int spawn(int count, int at_once, int forks, char **argv) {
  int64_t begun = nanos(CLOCK_MONOTONIC);
  int alive = 0, started = 0, ended = 0;
  while (ended < count) {
    while (alive < at_once && started < count) {
      pid_t pid;
      if (forks) {
        pid = fork();
        if (pid == 0) {
          execve(argv[0], argv, environ);
          _exit(127);
        }
        if (pid < 0) return 1;
      } else if (posix_spawn(&pid, argv[0], NULL, NULL, argv, environ)) {
        return 1;
      }
      alive++;
      started++;
    }
    if (waitpid(-1, NULL, 0) > 0) {
      alive--;
      ended++;
    }
  }
  printf("%.1f\n", count / ((nanos(CLOCK_MONOTONIC) - begun) / 1e9));
  return 0;
}

static int timer(char *self, int count, int ms, char *path) {
  int fd = timerfd_create(CLOCK_REALTIME, TFD_CLOEXEC), poll = epoll_create1(EPOLL_CLOEXEC);
  struct epoll_event event = {.events = EPOLLIN};
  epoll_ctl(poll, EPOLL_CTL_ADD, fd, &event);
  for (int i = 0; i < count; i++) {
    int64_t due = nanos(CLOCK_REALTIME) + ms * 1000000ll;
    struct itimerspec when = {.it_value = {due / 1000000000, due % 1000000000}};
    timerfd_settime(fd, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &when, NULL);
    epoll_wait(poll, &event, 1, -1);
    uint64_t ticks;
    if (read(fd, &ticks, 8) != 8) return 1;
    char *argv[] = {self, "stamp", path, NULL};
    pid_t pid;
    if (posix_spawn(&pid, self, NULL, NULL, argv, environ)) return 1;
    waitpid(pid, NULL, 0);
    printf("%lld\n", (long long)due);
  }
  return 0;
}

int main(int argc, char **argv) {
  const char *mode = argc > 1 ? argv[1] : "";
  if (!strcmp(mode, "stamp") && argc == 3) return stamp(argv[2]);
  if (!strcmp(mode, "event") && argc == 3) return event(argv[2]);
  if (!strcmp(mode, "idle")) return idle();
  if (!strcmp(mode, "spawn") && argc > 5) return spawn(atoi(argv[2]), atoi(argv[3]), !strcmp(argv[4], "fork"), argv + 5);
  if (!strcmp(mode, "timer") && argc == 5) return timer(argv[0], atoi(argv[2]), atoi(argv[3]), argv[4]);
  fprintf(stderr, "usage: see the top of floor.c\n");
  return 2;
}
