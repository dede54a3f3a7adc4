/*
 * Reads handwritten digits, by a network that fastlenet has written as C.
 *
 *     make                              export the network, compile this file, and read ten digits of MNIST
 *     ./digits one.pgm two.pgm          read your own: binary PGM files of 28x28 pixels, white on black as MNIST is
 *     ./digits images.raw               read many: images of 784 bytes, one after the other
 *     make clean                        remove what make has made
 *
 * Each line is an image, its digit, and the probability of that digit. network.h is the network, which needs no library:
 * `fastlenet export network.h` writes that of the package, `fastlenet export model.safetensors network.h` one of your own.
 */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "network.h"

/* The next number of a PGM's header, after blanks and comments; -1 if there is none. */
static long next_number(FILE *file)
{
    long number;
    int c = fgetc(file);
    while (c == '#' || isspace(c)) {
        const int skipped = c;
        do {
            c = fgetc(file);
        } while (skipped == '#' && c != '\n' && c != EOF);
    }
    ungetc(c, file);
    return fscanf(file, "%5ld", &number) == 1 ? number : -1;
}

/* Reads what stands before the pixels. Returns 0 if the file is no PGM of the network's size; a raw file has no header. */
static int read_header(FILE *file)
{
    char magic[2];
    if (fread(magic, 1, 2, file) != 2 || memcmp(magic, "P5", 2) != 0) {
        rewind(file);
        return 1;
    }
    const long width = next_number(file), height = next_number(file), most = next_number(file);
    fgetc(file); /* the one blank before the pixels */
    return width == FASTLENET_WIDTH && height == FASTLENET_HEIGHT && most == 255;
}

/* Prints the class of each image of a file. Returns whether all of it was images. */
static int read_images(const char *name, FILE *file)
{
    uint8_t image[FASTLENET_PIXELS];
    float probabilities[FASTLENET_CLASSES];
    size_t size;
    int count = 0;
    if (!read_header(file)) {
        fprintf(stderr, "%s: expected a PGM of %dx%d pixels of 0..255\n", name, FASTLENET_WIDTH, FASTLENET_HEIGHT);
        return 0;
    }
    while ((size = fread(image, 1, sizeof image, file)) == sizeof image) {
        const int number = fastlenet_predict(image, probabilities);
        printf("%s[%d]: %s %.2f%%\n", name, count++, fastlenet_class_name(number), 100.0 * probabilities[number]);
    }
    if (size > 0 || count == 0) {
        fprintf(stderr, "%s: expected images of %d bytes, got %d at the end\n", name, FASTLENET_PIXELS, (int)size);
    }
    return size == 0 && count > 0;
}

int main(int count, char **names)
{
    int failed = count < 2;
    if (failed) {
        fprintf(stderr, "usage: %s FILE...   PGM files, or raw images of %d bytes\n", names[0], FASTLENET_PIXELS);
    }
    for (int i = 1; i < count; ++i) {
        FILE *file = fopen(names[i], "rb");
        if (file == NULL) {
            perror(names[i]);
            failed = 1;
            continue;
        }
        failed |= !read_images(names[i], file);
        fclose(file);
    }
    return failed;
}
